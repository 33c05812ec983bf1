/**
 * Netlink messages and attributes: building and reading. Facts: netlink(7), `linux/netlink.h`.
 * Multi-byte numbers are in host order unless a function's name says big-endian.
 */

/** Length of `struct nlmsghdr`. */
export const HEADER_LENGTH = 16;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** Deno exists for little-endian machines only. */
export const LITTLE_ENDIAN = true;

/** Builds messages one after the other in one growing buffer. */
export class MessageBuilder {
  private bytes: Uint8Array<ArrayBuffer>;
  private view: DataView;
  private start = 0;
  /** Bytes written so far. */
  length = 0;

  constructor(capacity = 4096) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  /** The bytes so far, not a copy. */
  get data(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length);
  }

  /** Starts a message; its length is filled in by {@linkcode endMessage}. */
  beginMessage(type: number, flags: number, sequence: number): this {
    this.start = this.length;
    this.u32(0);
    this.u16(type);
    this.u16(flags);
    this.u32(sequence);
    this.u32(0);
    return this;
  }

  /** Ends the message that was started last. */
  endMessage(): this {
    this.view.setUint32(this.start, this.length - this.start, LITTLE_ENDIAN);
    return this;
  }

  /** Adds flags to the message that began at byte `start`. */
  addMessageFlags(start: number, flags: number): this {
    this.view.setUint16(
      start + 6,
      this.view.getUint16(start + 6, LITTLE_ENDIAN) | flags,
      LITTLE_ENDIAN,
    );
    return this;
  }

  u8(value: number): this {
    this.reserve(1);
    this.view.setUint8(this.length, value);
    this.length += 1;
    return this;
  }

  u16(value: number): this {
    this.reserve(2);
    this.view.setUint16(this.length, value, LITTLE_ENDIAN);
    this.length += 2;
    return this;
  }

  u16be(value: number): this {
    this.reserve(2);
    this.view.setUint16(this.length, value);
    this.length += 2;
    return this;
  }

  u32(value: number): this {
    this.reserve(4);
    this.view.setUint32(this.length, value, LITTLE_ENDIAN);
    this.length += 4;
    return this;
  }

  /** Adds raw bytes and pads to four. */
  raw(value: Uint8Array): this {
    this.reserve(value.length + 3);
    this.bytes.set(value, this.length);
    this.length += value.length;
    return this.pad();
  }

  /** Adds an attribute with a value of raw bytes. */
  attribute(type: number, value: Uint8Array): this {
    const mark = this.length;
    this.attributeHeader(0, type);
    return this.raw(value).fillLength(mark, value.length + 4);
  }

  /** Adds an attribute with a 32-bit number in host order. */
  attributeU32(type: number, value: number): this {
    this.attributeHeader(8, type);
    return this.u32(value);
  }

  /** Adds an attribute with a 32-bit number in network order, as nf_tables wants nearly all. */
  attributeU32be(type: number, value: number): this {
    this.attributeHeader(8, type);
    this.view.setUint32(this.length, value);
    this.length += 4;
    return this;
  }

  /** Adds an attribute with a NUL-terminated text. */
  attributeText(type: number, text: string): this {
    const mark = this.length;
    this.attributeHeader(0, type);
    return this.text(text).u8(0).endAttribute(mark);
  }

  /**
   * Adds the bytes of an ASCII text, without terminator or padding.
   *
   * @throws {TypeError} when the text has other characters.
   */
  text(text: string): this {
    this.reserve(text.length);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) throw new TypeError(`Cannot send ${JSON.stringify(text)}: It is not ASCII`);
      this.bytes[this.length++] = code;
    }
    return this;
  }

  /**
   * Starts an attribute that holds attributes; returns the mark that {@linkcode endAttribute} takes.
   *
   * @param flags 0 for the form without mark of nesting, in which nf_tables gives rules back.
   */
  beginNested(type: number, flags: number = NLA_F_NESTED): number {
    const mark = this.length;
    this.attributeHeader(0, type | flags);
    return mark;
  }

  /** Ends the attribute that began at `mark`: pads it and fills in its length. */
  endAttribute(mark: number): this {
    return this.fillLength(mark, this.length - mark).pad();
  }

  private fillLength(mark: number, length: number): this {
    if (length > 0xffff) throw new RangeError(`Attribute of ${length} bytes exceeds 65535`);
    this.view.setUint16(mark, length, LITTLE_ENDIAN);
    return this;
  }

  private attributeHeader(length: number, type: number): void {
    this.reserve(8);
    this.view.setUint32(this.length, length | type << 16, LITTLE_ENDIAN);
    this.length += 4;
  }

  private pad(): this {
    while (this.length % 4 !== 0) this.bytes[this.length++] = 0;
    return this;
  }

  private reserve(count: number): void {
    // Four bytes more than asked, so that padding never needs its own check.
    if (this.length + count + 4 <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.length + count + 4));
    larger.set(this.bytes);
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }
}

/** A received message: header fields and the bytes after the header, a view into the buffer. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** A received attribute; `value` is a view into the message. */
export interface Attribute {
  readonly type: number;
  readonly value: Uint8Array;
}

/**
 * Splits a datagram into its messages.
 *
 * @throws {RangeError} when a length field does not fit.
 */
export function parseMessages(datagram: Uint8Array): Message[] {
  const messages: Message[] = [];
  for (let at = 0; at + HEADER_LENGTH <= datagram.length;) {
    const length = readU32(datagram, at);
    if (length < HEADER_LENGTH || at + length > datagram.length) {
      throw new RangeError(`Netlink message of ${length} bytes at ${at} of ${datagram.length}`);
    }
    messages.push({
      type: readU16(datagram, at + 4),
      flags: readU16(datagram, at + 6),
      sequence: readU32(datagram, at + 8),
      payload: datagram.subarray(at + HEADER_LENGTH, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/**
 * Splits bytes into attributes, without looking into nested ones.
 *
 * @throws {RangeError} when a length field does not fit.
 */
export function parseAttributes(bytes: Uint8Array, from = 0): Attribute[] {
  const attributes: Attribute[] = [];
  for (let at = from; at + 4 <= bytes.length;) {
    const length = readU16(bytes, at);
    if (length < 4 || at + length > bytes.length) {
      throw new RangeError(`Netlink attribute of ${length} bytes at ${at} of ${bytes.length}`);
    }
    attributes.push({
      type: readU16(bytes, at + 2) & NLA_TYPE_MASK,
      value: bytes.subarray(at + 4, at + length),
    });
    at += (length + 3) & ~3;
  }
  return attributes;
}

/** Returns the value of the first attribute of a type. */
export function findAttribute(
  attributes: readonly Attribute[],
  type: number,
): Uint8Array | undefined {
  return attributes.find((attribute) => attribute.type === type)?.value;
}

/** Reads a 16-bit number in host order. */
export function readU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8;
}

/** Reads a 32-bit number in host order. */
export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
}

/** Reads a 32-bit number in network order. */
export function readU32be(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}

/** Reads text up to the first NUL. */
export function readText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    if (byte === 0) break;
    text += String.fromCharCode(byte);
  }
  return text;
}

/**
 * Returns the value of the first attribute of a type without making objects of the others.
 *
 * @throws {RangeError} when a length field does not fit.
 */
export function scanAttribute(
  bytes: Uint8Array,
  from: number,
  type: number,
): Uint8Array | undefined {
  for (let at = from; at + 4 <= bytes.length;) {
    const length = readU16(bytes, at);
    if (length < 4 || at + length > bytes.length) {
      throw new RangeError(`Netlink attribute of ${length} bytes at ${at} of ${bytes.length}`);
    }
    if ((readU16(bytes, at + 2) & NLA_TYPE_MASK) === type) {
      return bytes.subarray(at + 4, at + length);
    }
    at += (length + 3) & ~3;
  }
  return undefined;
}

/** Tells whether two byte strings are equal. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  if ((a.byteOffset | b.byteOffset | a.length) % 4 === 0) return sameElements(words(a), words(b));
  return sameElements(a, b);
}

/** Four bytes at a time: this code runs once in a process and is never compiled to machine code. */
function words(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

function sameElements(a: Uint8Array | Uint32Array, b: Uint8Array | Uint32Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
