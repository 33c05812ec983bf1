/** Lines of a watch. */
import { LineSplitter } from "../bytes/lines.ts";
import { decodeUtf8 } from "./response.ts";

/**
 * Yields the lines that are not empty, in whatever pieces they come.
 *
 * @param longest Most bytes of a line.
 * @throws {Error} when a line is longer or not UTF-8, or the stream ends in the middle of one.
 */
export async function* linesOf(
  stream: AsyncIterable<Uint8Array>,
  longest: number,
): AsyncGenerator<string, void, void> {
  const splitter = new LineSplitter(longest);
  for await (const piece of stream) {
    for (const line of splitter.push(piece)) {
      if (line.length > 0) yield decodeUtf8(line);
    }
  }
  if (decodeUtf8(splitter.takeRest()).trim() !== "") {
    throw new Error("The watch ended in the middle of an event");
  }
}
