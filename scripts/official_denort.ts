/**
 * Downloads denort as the Deno project publishes it: a zip file and, beside it, its SHA-256. Facts:
 * denoland/deno `cli/standalone/binary.rs` (address), pull request 26151 (checksums), and the ZIP
 * format's APPNOTE.TXT 4.3.
 */
import { sha256 } from "./sha256.ts";

/** Where the Deno project publishes its downloads; `DENORT_BASE_URL` names a mirror. */
const OFFICIAL_URL = "https://dl.deno.land";

/** Longest time for one file. */
const LIMIT = 180_000;

/** A downloaded denort, and where it came from. */
export interface OfficialDenort {
  readonly bytes: Uint8Array;
  readonly url: string;
}

/**
 * Downloads denort and compares its zip file with the published checksum.
 *
 * @param version Version of Deno, for example `2.6.8`.
 * @param target Target triple.
 * @throws {OfficialChecksumError} when the checksum is of another file.
 * @throws {Error} when the files are not to be had or are not what they should be.
 */
export async function downloadOfficialDenort(
  version: string,
  target: string,
): Promise<OfficialDenort> {
  const base = (Deno.env.get("DENORT_BASE_URL") || OFFICIAL_URL).replace(/\/+$/, "");
  const url = `${base}/release/v${version}/denort-${target}.zip`;
  const sums = new TextDecoder().decode(await download(`${url}.sha256sum`));
  const expected = /\b[0-9a-f]{64}\b/i.exec(sums)?.[0]?.toLowerCase();
  if (expected === undefined) throw new Error(`${url}.sha256sum has no SHA-256`);
  const zip = await download(url);
  const actual = await sha256(zip);
  if (actual !== expected) throw new OfficialChecksumError(url, expected, actual);
  return { bytes: await unzip(zip, "denort"), url };
}

/** What was downloaded is not what was published. */
export class OfficialChecksumError extends Error {
  override readonly name = "OfficialChecksumError";
  constructor(url: string, expected: string, actual: string) {
    super(`Refusing ${url}: its sha256 is ${actual}, expected ${expected} as in ${url}.sha256sum`);
  }
}

async function download(url: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url, { signal: AbortSignal.timeout(LIMIT) });
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`${url}: HTTP status ${response.status}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

/** Takes one file out of a zip file. */
async function unzip(zip: Uint8Array<ArrayBuffer>, wanted: string): Promise<Uint8Array> {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const malformed = () => new Error(`The zip file has no file "${wanted}" that can be read`);
  let end = zip.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw malformed();
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (at + 46 > zip.length || view.getUint32(at, true) !== 0x02014b50) throw malformed();
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((o) =>
      view.getUint16(at + o, true)
    ) as [number, number, number];
    const name = new TextDecoder().decode(zip.subarray(at + 46, at + 46 + nameLength));
    if (name === wanted) {
      const method = view.getUint16(at + 10, true);
      const compressed = view.getUint32(at + 20, true);
      const local = view.getUint32(at + 42, true);
      if (local + 30 > zip.length || (method !== 0 && method !== 8)) throw malformed();
      const start = local + 30 + view.getUint16(local + 26, true) +
        view.getUint16(local + 28, true);
      const data = zip.slice(start, start + compressed);
      if (method === 0) return data;
      const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    }
    at += 46 + nameLength + extraLength + commentLength;
  }
  throw malformed();
}
