/** The kinds of values that a setting can have: in words for people, and their parsers. */
import type { LogLevel } from "../../src/log/log.ts";
import type { LogFormat } from "../../src/log/stderr.ts";
import { problemOfEntry } from "./plugin_entry.ts";

/** A parsed value, or why there is none; an empty reason when what is allowed says it all. */
export type Parsed<T> = { readonly value: T } | { readonly reason: string };

/** One kind of value. */
interface Kind<T> {
  /** What is allowed, in words. */
  readonly allowed: string;
  /** What stands for a value in a line of help. */
  readonly placeholder: string;
  parse(text: string): Parsed<T>;
}

const wrong = { reason: "" };

/** One of some words; help shows all of them in the value's place unless told otherwise. */
function oneOf<const T extends string>(
  words: readonly T[],
  placeholder = words.join("|"),
): Kind<T> {
  return {
    allowed: `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`,
    placeholder,
    parse(text) {
      const value = words.find((word) => word === text);
      return value === undefined ? wrong : { value };
    },
  };
}

const text: Kind<string> = {
  allowed: "text",
  placeholder: "text",
  parse: (value) => ({ value }),
};

// The reference installer's forms, those of Go's strconv.ParseBool.
const boolean: Kind<boolean> = {
  allowed: "true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)",
  placeholder: "true|false",
  parse(value) {
    if (/^(1|t|T|TRUE|true|True)$/.test(value)) return { value: true };
    if (/^(0|f|F|FALSE|false|False)$/.test(value)) return { value: false };
    return wrong;
  },
};

const duration: Kind<number> = {
  allowed: "a number of seconds, 0 or more",
  placeholder: "seconds",
  parse(value) {
    const number = Number(value);
    return /^[0-9]+(\.[0-9]+)?$/.test(value) && number <= 86400 ? { value: number } : wrong;
  },
};

const seconds: Kind<number> = {
  allowed: "a number of seconds greater than 0",
  placeholder: "seconds",
  parse: (value) => Number(value) > 0 ? duration.parse(value) : wrong,
};

const host: Kind<string> = {
  allowed: "a host name or an IP address",
  placeholder: "host",
  parse(value) {
    if (value === "") return { value };
    // Some platforms write an IPv6 address as in a URL.
    const bare = /^\[(.*)\]$/.exec(value)?.[1] ?? value;
    const isRight = bare.includes(":")
      ? /^[0-9A-Fa-f:.]+$/.test(bare) && URL.canParse(`http://[${bare}]/`)
      : bare === value && /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(bare) &&
        URL.canParse(`http://${bare}/`);
    return isRight ? { value: bare } : wrong;
  },
};

const serverPort: Kind<string> = {
  allowed: "a number from 1 to 65535",
  placeholder: "port",
  parse: (value) =>
    value === "" || (/^[1-9][0-9]{0,4}$/.test(value) && Number(value) <= 65535) ? { value } : wrong,
};

const protocol = oneOf(["https", "http"]);

// Kubernetes' qualified names: a prefix that is a DNS name, and up to 63 characters.
const qualifiedName: Kind<string> = {
  allowed: "a name such as NodeReadiness or kuma.io/cni-not-ready",
  placeholder: "name",
  parse(value) {
    const [, prefix = ""] = /^(?:([^/]*)\/)?[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$/
      .exec(value) ?? [, "/"];
    const isPrefix = prefix === "" && !value.startsWith("/") ||
      prefix.length <= 253 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
          .test(prefix);
    return isPrefix ? { value } : wrong;
  },
};

const taintEffect = oneOf(["NoSchedule", "PreferNoSchedule", "NoExecute"], "effect");

const label: Kind<string> = {
  allowed: "a name of small letters, digits and -, at most 63",
  placeholder: "name",
  parse: (value) => /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(value) ? { value } : wrong,
};

// An empty one is refused where it matters, by the setting that needs it.
const labelValue: Kind<string> = {
  allowed: "a value of a label: letters, digits, - _ and ., at most 63",
  placeholder: "label",
  parse: (value) =>
    value === "" || /^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$/.test(value)
      ? { value }
      : wrong,
};

const port: Kind<number> = {
  allowed: "a number from 0 to 65535",
  placeholder: "port",
  parse: (value) =>
    /^[0-9]{1,5}$/.test(value) && Number(value) <= 65535 ? { value: Number(value) } : wrong,
};

const level: Kind<LogLevel> = oneOf(["off", "info", "debug"]);

const logFormat: Kind<LogFormat> = oneOf(["text", "json"]);

const path: Kind<string> = {
  allowed: "an absolute path",
  placeholder: "path",
  parse(value) {
    if (value === "") return { value };
    if (!value.startsWith("/") || value.includes("\0")) return wrong;
    return { value: value.replace(/(?<=.)\/+$/, "") };
  },
};

const name: Kind<string> = {
  allowed: "a file name without a slash, not ending in .conf, .conflist or .json",
  placeholder: "file name",
  parse: (value) => isFileName(value) && !/\.(conf|conflist|json)$/.test(value) ? { value } : wrong,
};

const confName: Kind<string> = {
  allowed: "a file name without a slash, ending in .conf, .conflist or .json",
  placeholder: "file name",
  parse: (value) =>
    value === "" || (isFileName(value) && /\.(conf|conflist|json)$/.test(value))
      ? { value }
      : wrong,
};

const json: Kind<string> = {
  allowed: `a JSON object with "type": "kuma-cni" that the plugin can read`,
  placeholder: "json",
  parse(value) {
    const reason = problemOfEntry(value);
    return reason === undefined ? { value } : { reason };
  },
};

const runtime = oneOf(["auto", "containerd", "cri-o", "multus"]);

const repair = oneOf(["report", "repair"]);

const earlyPods = oneOf(["off", "waiting", "always"]);

/** All kinds. */
export const kinds = {
  repair,
  earlyPods,
  runtime,
  text,
  boolean,
  seconds,
  host,
  serverPort,
  protocol,
  duration,
  qualifiedName,
  taintEffect,
  label,
  labelValue,
  port,
  level,
  logFormat,
  path,
  name,
  confName,
  json,
};

/** Name of a kind. */
export type KindName = keyof typeof kinds;

/** Type of a kind's values. */
export type ValueOf<Name extends KindName> = (typeof kinds)[Name] extends Kind<infer T> ? T : never;

function isFileName(value: string): boolean {
  return value !== "" && value !== "." && value !== ".." && !/[/\0]/.test(value);
}
