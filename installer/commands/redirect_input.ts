/** What the commands about rules read: a pod's manifest or a transparent proxy configuration. */
// @ts-types="../../src/types/std_yaml_parse.d.ts"
import { parseAll } from "@std/yaml/parse";
import { isRecord, own } from "../../src/json/record.ts";
import { parsePod } from "../../src/kubernetes/pod.ts";
import { decideForPod } from "../../src/pod/decide.ts";
import type { Skip } from "../../src/pod/decision.ts";
import { podSettings } from "../../src/pod/pod_settings.ts";
import {
  type RedirectConfigOptions,
  type RedirectConfigResult,
  transparentProxyConfigOf,
} from "../../src/pod/redirect_config.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { quote } from "../../src/text/quote.ts";
import { unknownAnnotations } from "./unknown_annotations.ts";

/** A decision, and how it came about. */
export type RedirectInput =
  | ({ readonly kind: "redirect"; readonly title: string } & RedirectConfigResult)
  | ({ readonly title: string } & Skip);

/** One decision at least. */
export type RedirectInputs = readonly [RedirectInput, ...RedirectInput[]];

/** Longest input that is read, in bytes. */
const MAX_INPUT = 4 * 1024 * 1024;

/** Name of standard input in messages. */
const STDIN = "standard input";

const EXPECTED = 'expected a Pod as the injector leaves it ("kubectl get pod NAME -o yaml") or a ' +
  "transparent proxy configuration";

/**
 * Reads an input and decides about each pod and configuration in it: documents of a YAML stream, and
 * items of a `List` as kubectl prints it.
 *
 * @param path A file, or `-` for standard input.
 * @param options What the network configuration and the container runtime would say.
 * @param say Takes a sentence about what was left out; by default nothing hears it.
 * @returns One decision at least.
 * @throws {Error} when it cannot be read or has neither a pod nor a configuration.
 * @throws {ConfigError} when it states what cannot or may not be done.
 */
export async function readRedirectInputs(
  path: string,
  options: RedirectConfigOptions,
  say: (sentence: string) => void = () => {},
): Promise<RedirectInputs> {
  const name = path === "-" ? STDIN : path;
  let text;
  try {
    text = path === "-" ? await readBounded(Deno.stdin.readable) : await readFile(path);
  } catch (error) {
    throw new Error(`Cannot read ${name}: ${messageOf(error)}`);
  }
  return parseRedirectInputs(text, name, options, say);
}

/**
 * Reads an input that holds one pod or one configuration, and decides about it.
 *
 * @throws As {@linkcode readRedirectInputs}, and {Error} when there are several.
 */
export async function readRedirectInput(
  path: string,
  options: RedirectConfigOptions,
): Promise<RedirectInput> {
  const [input, ...others] = await readRedirectInputs(path, options);
  if (others.length > 0) {
    throw new Error(
      `${capitalized(path === "-" ? STDIN : path)} has ${others.length + 1} pods or ` +
        "configurations, expected one",
    );
  }
  return input;
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
 * @param text YAML or JSON, one document or several.
 * @param name Its name in messages.
 * @throws As {@linkcode readRedirectInputs}.
 */
export function parseRedirectInputs(
  text: string,
  name: string,
  options: RedirectConfigOptions,
  say: (sentence: string) => void = () => {},
): RedirectInputs {
  let documents;
  try {
    documents = parseAll(text, { schema: "core", onWarning: () => {} });
  } catch (error) {
    // Behind the first line the parser shows the place in the text.
    const reason = messageOf(error).split(":\n")[0];
    throw new Error(`Cannot parse ${name}: ${reason}`);
  }
  const things = documents.filter((document) => document !== undefined && document !== null)
    .flatMap((document) => {
      const items = String(member(document, "kind")).endsWith("List")
        ? member(document, "items")
        : undefined;
      return Array.isArray(items) ? items : [document];
    });
  if (things.length === 0) {
    const guess = name === STDIN ? ", perhaps since the command before the pipe failed" : "";
    throw new Error(`${capitalized(name)} is empty${guess}; ${EXPECTED}`);
  }
  const isOurs = (thing: unknown) => ["Pod", undefined].includes(member(thing, "kind") as string);
  const ours = things.length === 1 ? things : things.filter(isOurs);
  const kinds = [...new Set(things.filter((thing) => !isOurs(thing)).map(kindText))].join(", ");
  const [first, ...rest] = ours;
  if (first === undefined) {
    throw new Error(`${capitalized(name)} has no pod among objects of kind ${kinds}; ${EXPECTED}`);
  }
  if (ours.length < things.length) say(`Objects of kind ${kinds} are left out`);
  const decide = (thing: unknown) =>
    decideAbout(thing, things.length === 1 ? text : undefined, name, options);
  return [decide(first), ...rest.map(decide)];
}

/** @param text The document as it was written; `undefined`: one of several. */
function decideAbout(
  document: unknown,
  text: string | undefined,
  name: string,
  options: RedirectConfigOptions,
): RedirectInput {
  const kind = member(document, "kind");
  if (kind === undefined) {
    checkConfiguration(document, name);
    return {
      kind: "redirect",
      title: `Configuration ${name}`,
      ...transparentProxyConfigOf(text ?? JSON.stringify(document), options, {
        source: name,
        rulesVersion: "3",
      }),
    };
  }
  if (kind !== "Pod") {
    throw new Error(`${capitalized(name)} is of kind ${kindText(document)}; ${EXPECTED}`);
  }
  const pod = parsePod(withIdentity(document as Record<string, unknown>));
  const title = `Pod ${pod.namespace}/${pod.name}`;
  const decision = decideForPod(pod, options);
  if (decision.kind === "skip") return { title, ...decision };
  const warnings = [...decision.warnings, ...unknownAnnotations(pod.annotations)];
  return { title, ...decision, warnings };
}

function kindText(document: unknown): string {
  return JSON.stringify(member(document, "kind"))?.slice(0, 80) ?? "none";
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
      keys.slice(0, 5).map((key) => quote(key, 40)).join(", ") || "no key at all"
    }); ${EXPECTED}`,
  );
}

function capitalized(text: string): string {
  return text === STDIN ? text.replace(/^./, (letter) => letter.toUpperCase()) : text;
}

function member(value: unknown, key: string): unknown {
  return isRecord(value) ? own(value, key) : undefined;
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
