/**
 * Computes the SHA-256 of bytes.
 *
 * @returns 64 lower-case hexadecimal digits.
 */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return new Uint8Array(digest).toHex();
}
