/** Takes a stream of bytes apart into lines. */
import { ByteBuffer } from "./byte_buffer.ts";
import { decodeUtf8 } from "./response.ts";

/**
 * Yields the lines that are not empty; each byte is looked at once, in whatever pieces they come.
 *
 * @param longest Most bytes of a line.
 * @throws {Error} when a line is longer or not UTF-8, or the stream ends in the middle of one.
 */
export async function* linesOf(
  stream: AsyncIterable<Uint8Array>,
  longest: number,
): AsyncGenerator<string, void, void> {
  const rest = new ByteBuffer();
  for await (const piece of stream) {
    for (let at = 0; at < piece.length;) {
      const end = piece.indexOf(0x0a, at);
      const part = piece.subarray(at, end < 0 ? piece.length : end);
      if (rest.length + part.length > longest) {
        throw new Error(`A line of the watch has more than ${longest} bytes`);
      }
      rest.append(part);
      at += part.length + 1;
      if (end < 0) break;
      if (rest.length > 0) yield decodeUtf8(rest.take());
    }
  }
  if (decodeUtf8(rest.take()).trim() !== "") {
    throw new Error("The watch ended in the middle of an event");
  }
}
