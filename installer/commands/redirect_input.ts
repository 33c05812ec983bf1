/** What the commands about rules read: a pod's manifest or a transparent proxy configuration. */
// @ts-types="../../src/types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import { parsePod } from "../../src/kubernetes/pod.ts";
import { decideForPod } from "../../src/pod/decide.ts";
import type { Skip } from "../../src/pod/decision.ts";
import { podSettings } from "../../src/pod/pod_settings.ts";
import {
  type RedirectConfigOptions,
  type RedirectConfigResult,
  transparentProxyConfigOf,
} from "../../src/pod/redirect_config.ts";

/** A decision, and how it came about. */
export type RedirectInput =
  | ({ readonly kind: "redirect"; readonly title: string } & RedirectConfigResult)
  | ({ readonly title: string } & Skip);

/** Longest input that is read, in bytes. */
const MAX_INPUT = 4 * 1024 * 1024;

/** Name of standard input in messages. */
const STDIN = "standard input";

const EXPECTED = 'expected a Pod as the injector leaves it ("kubectl get pod NAME -o yaml") or a ' +
  "transparent proxy configuration";

/**
 * Reads and decides about an input.
 *
 * @param path A file, or `-` for standard input.
 * @param options What the network configuration and the container runtime would say.
 * @throws {Error} when it cannot be read or is neither a pod nor a configuration.
 * @throws {ConfigError} when it states what cannot or may not be done.
 */
export async function readRedirectInput(
  path: string,
  options: RedirectConfigOptions,
): Promise<RedirectInput> {
  const name = path === "-" ? STDIN : path;
  let text;
  try {
    text = path === "-" ? await readBounded(Deno.stdin.readable) : await readFile(path);
  } catch (error) {
    throw new Error(`Cannot read ${name}: ${error instanceof Error ? error.message : error}`);
  }
  return parseRedirectInput(text, name, options);
}

async function readFile(path: string): Promise<string> {
  using file = await Deno.open(path);
  return await readBounded(file.readable);
}

async function readBounded(stream: ReadableStream<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_INPUT) throw new Error(`It is longer than ${MAX_INPUT} bytes`);
  }
  return await new Blob(chunks as Uint8Array<ArrayBuffer>[]).text();
}

/**
 * Decides about a text: a mapping with `kind: Pod` is a pod, one without `kind` a configuration.
 *
 * @param text YAML or JSON.
 * @param name Its name in messages.
 * @throws As {@linkcode readRedirectInput}.
 */
export function parseRedirectInput(
  text: string,
  name: string,
  options: RedirectConfigOptions,
): RedirectInput {
  let document;
  try {
    document = parse(text, { schema: "core", onWarning: () => {} });
  } catch (error) {
    // Behind the first line the parser shows the place in the text.
    const reason = error instanceof Error ? error.message.split(":\n")[0] : error;
    throw new Error(`Cannot parse ${name}: ${reason}`);
  }
  if (document === undefined || document === null) {
    throw new Error(
      `${capitalized(name)} is empty${
        name === STDIN ? ", perhaps since the command before the pipe failed" : ""
      }; ${EXPECTED}`,
    );
  }
  const kind = member(document, "kind");
  if (kind === undefined) {
    checkConfiguration(document, name);
    return {
      kind: "redirect",
      title: `Configuration ${name}`,
      ...transparentProxyConfigOf(text, options, { source: name, rulesVersion: "3" }),
    };
  }
  if (kind !== "Pod") {
    throw new Error(`${capitalized(name)} is of kind ${JSON.stringify(kind)}; ${EXPECTED}`);
  }
  const pod = parsePod(withIdentity(document as Record<string, unknown>));
  const title = `Pod ${pod.namespace}/${pod.name}`;
  const decision = decideForPod(pod, options);
  return { title, ...decision };
}

/**
 * Refuses what is not a configuration: one without any setting stands for all defaults, so that a
 * stray text would count as a pod whose traffic is redirected.
 */
function checkConfiguration(document: unknown, name: string): void {
  if (typeof document !== "object" || Array.isArray(document)) {
    throw new Error(
      `${capitalized(name)} is ${Array.isArray(document) ? "a list" : "a plain text"}; ${EXPECTED}`,
    );
  }
  const keys = Object.keys(document as Record<string, unknown>);
  const known = new Set(
    podSettings().flatMap(({ key }) => key?.split(".")[0]?.toLowerCase() ?? []),
  );
  if (keys.some((key) => known.has(key.toLowerCase()))) return;
  throw new Error(
    `${capitalized(name)} has no setting of a transparent proxy configuration (it has ${
      keys.slice(0, 5).map((key) => JSON.stringify(key.slice(0, 40))).join(", ") || "no key at all"
    }); ${EXPECTED}`,
  );
}

function capitalized(text: string): string {
  return text === STDIN ? text.replace(/^./, (letter) => letter.toUpperCase()) : text;
}

function member(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

/** A manifest in a file has no UID yet, and often no namespace. */
function withIdentity(document: Record<string, unknown>): Record<string, unknown> {
  const metadata = member(document, "metadata");
  if (typeof metadata !== "object" || metadata === null) return document;
  const name = member(metadata, "name") ?? member(metadata, "generateName");
  return {
    ...document,
    metadata: {
      namespace: "default",
      uid: "00000000-0000-0000-0000-000000000000",
      ...metadata,
      ...(name === undefined ? {} : { name }),
    },
  };
}
