/** The `CNI_*` variables: which verb is asked for, about which container (CNI 1.1.0, section 2). */
import { quote } from "../text/quote.ts";
import { CniError, CniErrorCode } from "./errors.ts";

/** Verbs of the protocol. */
export type Verb = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS" | "VERSION";

/** The parsed environment; texts are empty when the verb does not need them and they are not set. */
export interface CniEnvironment {
  readonly verb: Verb;
  readonly containerId: string;
  /** Path of the network namespace. */
  readonly netns: string;
  readonly interfaceName: string;
  /** `CNI_ARGS`, unparsed. */
  readonly args: string;
  /** `CNI_NETNS_OVERRIDE`: the namespace may be the one that the plugin itself runs in. */
  readonly allowOwnNamespace: boolean;
}

/** Reads one environment variable, like `Deno.env.get`. */
export type ReadVariable = (name: string) => string | undefined;

/**
 * Parses the environment of a call.
 *
 * @returns The environment, or `undefined` when `CNI_COMMAND` is not set: then no runtime has
 * called.
 * @throws {CniError} code 4 that names all missing variables, or the malformed one.
 */
export function parseEnvironment(read: ReadVariable): CniEnvironment | undefined {
  const command = text(read, "CNI_COMMAND");
  if (command === "") return undefined;
  if (!isVerb(command)) {
    throw new CniError(
      CniErrorCode.InvalidEnvironment,
      `Unknown CNI_COMMAND ${quote(command, 64)}`,
      "Expected one of ADD, DEL, CHECK, GC, STATUS, VERSION",
    );
  }
  const missing = requiredVariables(command).filter((name) => text(read, name) === "");
  if (missing.length > 0) {
    throw new CniError(
      CniErrorCode.InvalidEnvironment,
      `Required environment variables are missing for ${command}: ${missing.join(", ")}`,
      "The container runtime sets them; see section 2 of the CNI specification",
    );
  }
  const environment = {
    verb: command,
    containerId: text(read, "CNI_CONTAINERID"),
    netns: text(read, "CNI_NETNS"),
    interfaceName: text(read, "CNI_IFNAME"),
    args: text(read, "CNI_ARGS"),
    allowOwnNamespace: /^(1|true)$/i.test(text(read, "CNI_NETNS_OVERRIDE")),
  };
  if (command === "ADD" || command === "DEL" || command === "CHECK") {
    requireContainerId(environment.containerId);
    requireInterfaceName(environment.interfaceName);
  }
  return environment;
}

function requiredVariables(verb: Verb): readonly string[] {
  switch (verb) {
    case "ADD":
    case "CHECK":
      return ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
    case "DEL":
      return ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"];
    case "GC":
    case "STATUS":
      return ["CNI_PATH"];
    case "VERSION":
      return [];
  }
}

function isVerb(value: string): value is Verb {
  return value === "ADD" || value === "DEL" || value === "CHECK" || value === "GC" ||
    value === "STATUS" || value === "VERSION";
}

function requireContainerId(value: string): void {
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(value)) return;
  throw new CniError(
    CniErrorCode.InvalidEnvironment,
    `CNI_CONTAINERID ${quote(value, 128)} is not a container ID`,
    'Expected a letter or digit, followed by letters, digits, "_", "." or "-"',
  );
}

function requireInterfaceName(value: string): void {
  // The kernel's rules (dev_valid_name): at most IFNAMSIZ - 1 = 15 bytes, no "/", ":" or white space.
  const bytes = new TextEncoder().encode(value).length;
  if (bytes <= 15 && value !== "." && value !== ".." && !/[/:\s]/.test(value)) return;
  throw new CniError(
    CniErrorCode.InvalidEnvironment,
    `CNI_IFNAME ${quote(value, 64)} is not a name of a network interface`,
    'Expected at most 15 bytes without "/", ":" or white space, and neither "." nor ".."',
  );
}

function text(read: ReadVariable, name: string): string {
  try {
    return read(name) ?? "";
  } catch (error) {
    throw new CniError(
      CniErrorCode.InvalidEnvironment,
      `Could not read the environment variable ${name}`,
      "Expected UTF-8 text",
      { cause: error },
    );
  }
}
