/** The few bytes of DNS (RFC 1035) that the traffic tests and the demo exchange: TXT queries. */

const TXT = 16;
const IN = 1;
const HEADER_LENGTH = 12;

/**
 * Builds a query for the TXT record of a name.
 *
 * @param id message identifier, 0–65535
 * @param name for example `web.mesh`
 */
export function buildQuery(id: number, name: string): Uint8Array<ArrayBuffer> {
  const labels = name.split(".").map((label) => new TextEncoder().encode(label));
  const nameLength = labels.reduce((sum, label) => sum + 1 + label.length, 1);
  const query = new Uint8Array(HEADER_LENGTH + nameLength + 4);
  const view = new DataView(query.buffer);
  view.setUint16(0, id);
  view.setUint16(2, 0x0100); // recursion desired
  view.setUint16(4, 1); // one question
  let at = HEADER_LENGTH;
  for (const label of labels) {
    query[at] = label.length;
    query.set(label, at + 1);
    at += 1 + label.length;
  }
  view.setUint16(at + 1, TXT);
  view.setUint16(at + 3, IN);
  return query;
}

/** Offset just behind the first question of a message. */
function questionEnd(message: Uint8Array): number {
  let at = HEADER_LENGTH;
  for (let length = message[at]; length !== undefined && length > 0; length = message[at]) {
    at += 1 + length;
  }
  if (at + 5 > message.length) throw new RangeError("Cannot read a DNS message: question cut off");
  return at + 5;
}

/**
 * Builds the answer to a query: one TXT record, whatever was asked for.
 *
 * @param text at most 255 bytes
 */
export function buildAnswer(query: Uint8Array, text: string): Uint8Array<ArrayBuffer> {
  const question = query.subarray(HEADER_LENGTH, questionEnd(query));
  const data = new TextEncoder().encode(text);
  const answer = new Uint8Array(HEADER_LENGTH + question.length + 13 + data.length);
  const view = new DataView(answer.buffer);
  answer.set(query.subarray(0, 2));
  view.setUint16(2, 0x8400); // answer, authoritative
  view.setUint16(4, 1);
  view.setUint16(6, 1);
  answer.set(question, HEADER_LENGTH);
  let at = HEADER_LENGTH + question.length;
  for (const value of [0xc00c, TXT, IN, 0, 0, data.length + 1]) {
    view.setUint16(at, value);
    at += 2;
  }
  answer[at] = data.length;
  answer.set(data, at + 1);
  return answer;
}

/** Reads the text of an answer that {@linkcode buildAnswer} built, and its identifier. */
export function readAnswer(answer: Uint8Array<ArrayBuffer>): { id: number; text: string } {
  const at = questionEnd(answer) + 12;
  const length = answer[at];
  if (length === undefined) throw new RangeError("Cannot read a DNS answer: record cut off");
  return {
    id: new DataView(answer.buffer, answer.byteOffset).getUint16(0),
    text: new TextDecoder().decode(answer.subarray(at + 1, at + 1 + length)),
  };
}
