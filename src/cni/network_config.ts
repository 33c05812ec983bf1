/** The network configuration on stdin: its text, and the keys of the specification. */
import { isRecord, own } from "../json/record.ts";
import { CniError, CniErrorCode } from "./errors.ts";
import { topLevelValueSpan } from "../json/span.ts";
import { show, typeName, wrongValue } from "./json_value.ts";
import { TOO_MUCH_HINT } from "./stdin.ts";
import { DEFAULT_VERSION, isSupportedVersion, supportedVersions } from "./versions.ts";

/** A network configuration whose standard keys are right. */
export interface NetworkConfig {
  readonly cniVersion: string;
  readonly name: string;
  /** All keys, as parsed. */
  readonly values: Readonly<Record<string, unknown>>;
  /** The bytes it was parsed from. */
  readonly bytes: Uint8Array;
}

/** The runtime takes these keys from the list that the plugin's entry stands in. */
const FILE_HINT =
  "Correct it in the CNI configuration file on the node that the container runtime has loaded";

/**
 * Parses the bytes of stdin and checks the specification's keys.
 *
 * @throws {CniError} code 6 when they are not JSON in UTF-8, 7 when `name` or a type is wrong, 1 when
 * the version is not supported.
 */
export function parseNetworkConfig(bytes: Uint8Array): NetworkConfig {
  const values = parseObject(bytes);
  const name = own(values, "name");
  if (typeof name !== "string" || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) {
    throw wrongValue(
      "name",
      'a letter or digit, followed by letters, digits, "_", "." or "-"',
      name,
      FILE_HINT,
    );
  }
  const type = own(values, "type") ?? "";
  if (typeof type !== "string") throw wrongValue("type", "a string", type, FILE_HINT);
  const version = own(values, "cniVersion") ?? "";
  if (typeof version !== "string") {
    throw wrongValue("cniVersion", "a string", version, FILE_HINT);
  }
  const cniVersion = version === "" ? DEFAULT_VERSION : version;
  if (!isSupportedVersion(cniVersion)) {
    throw new CniError(
      CniErrorCode.IncompatibleVersion,
      "Incompatible CNI versions",
      `Config is ${show(cniVersion)}, plugin supports ${JSON.stringify(supportedVersions())}`,
    );
  }
  return { cniVersion, name, values, bytes };
}

/**
 * Returns the bytes of `prevResult` as the caller wrote them, or `undefined` when there is none.
 *
 * @throws {CniError} code 7 when it is no object.
 */
export function previousResultOf(config: NetworkConfig): Uint8Array | undefined {
  const value = own(config.values, "prevResult") ?? undefined;
  if (value === undefined) return undefined;
  if (!isRecord(value)) {
    throw wrongValue(
      "prevResult",
      "an object",
      value,
      "The container runtime hands over the result of the plugin before this one in the chain",
    );
  }
  const span = topLevelValueSpan(config.bytes, "prevResult");
  if (span === undefined) throw new Error("prevResult was parsed but not found in its text");
  return config.bytes.subarray(span.start, span.end);
}

/**
 * Most values in a configuration; real ones have some hundred. Each takes over 100 bytes of memory
 * once it is parsed, however short its text: 8 MiB of `[[[[` would take 500 MiB.
 */
const MOST_VALUES = 250_000;

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  if (bytes.length > MOST_VALUES && hasMoreValues(bytes, MOST_VALUES)) {
    throw new CniError(
      CniErrorCode.Decoding,
      `Network configuration on stdin has more than ${MOST_VALUES} values`,
      TOO_MUCH_HINT,
    );
  }
  let value: unknown;
  try {
    // A byte order mark is no JSON (RFC 8259, section 8.1) and is kept so that parsing refuses it.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof SyntaxError ? withoutSnippet(error.message) : "Not UTF-8 text";
    throw new CniError(
      CniErrorCode.Decoding,
      bytes.length === 0
        ? "Network configuration on stdin is empty"
        : `Could not decode the network configuration on stdin (${bytes.length} bytes) as JSON`,
      bytes.length === 0 ? "" : reason,
    );
  }
  if (!isRecord(value)) {
    throw new CniError(
      CniErrorCode.InvalidConfig,
      `Network configuration on stdin must be a JSON object, but it is ${typeName(value)}`,
    );
  }
  return value;
}

/** Each value but the first follows one of these; those inside of texts count, too. */
function hasMoreValues(json: Uint8Array, most: number): boolean {
  let count = 0;
  for (const mark of ",[{") {
    const byte = mark.charCodeAt(0);
    for (let at = json.indexOf(byte); at >= 0; at = json.indexOf(byte, at + 1)) {
      if (++count > most) return true;
    }
  }
  return false;
}

/** Cuts the quotation of the text out of a parser's message: the configuration can hold a token. */
function withoutSnippet(message: string): string {
  return message.replace(/,? ?(\.\.\.)?".*$/s, "");
}
