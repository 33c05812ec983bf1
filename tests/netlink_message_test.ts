import assert from "node:assert/strict";
import {
  findAttribute,
  MessageBuilder,
  parseAttributes,
  parseMessages,
  readText,
  readU32,
  readU32be,
  sameBytes,
  scanAttribute,
} from "../src/linux/netlink_message.ts";

Deno.test("messages and attributes survive building and parsing, across growth of the buffer", () => {
  const out = new MessageBuilder(8);
  for (let sequence = 0; sequence < 100; sequence++) {
    out.beginMessage(7, 5, sequence);
    const nested = out.beginNested(3);
    out.attributeU32be(1, 0xfffffffe).attributeText(2, "x".repeat(sequence)).endAttribute(nested);
    out.attributeU32(4, sequence).attribute(5, new Uint8Array(sequence).fill(9)).endMessage();
  }
  const messages = parseMessages(out.data);
  assert.equal(messages.length, 100);
  for (const [sequence, message] of messages.entries()) {
    assert.deepEqual([message.type, message.flags, message.sequence], [7, 5, sequence]);
    const attributes = parseAttributes(message.payload);
    assert.deepEqual(attributes.map(({ type }) => type), [3, 4, 5]);
    assert.equal(readU32(findAttribute(attributes, 4)!, 0), sequence);
    assert.deepEqual(scanAttribute(message.payload, 0, 5), new Uint8Array(sequence).fill(9));
    const inner = parseAttributes(findAttribute(attributes, 3)!);
    assert.equal(readU32be(findAttribute(inner, 1)!, 0), 0xfffffffe);
    assert.equal(readText(findAttribute(inner, 2)!), "x".repeat(sequence));
  }
});

Deno.test("lengths that lie are refused, not followed", () => {
  const message = new MessageBuilder().beginMessage(1, 0, 1).attributeU32(1, 1).endMessage().data;
  const tampered = (at: number, value: number) => {
    const copy = message.slice();
    copy[at] = value;
    return copy;
  };
  for (const length of [0, 15, 200]) {
    assert.throws(() => parseMessages(tampered(0, length)), RangeError);
  }
  for (const length of [0, 3, 9, 200]) {
    const [parsed] = parseMessages(tampered(16, length));
    assert.throws(() => parseAttributes(parsed!.payload), RangeError);
    assert.throws(() => scanAttribute(parsed!.payload, 0, 2), RangeError);
  }
  assert.deepEqual(parseMessages(new Uint8Array(15)), []);
});

Deno.test("an attribute too long for its length field is refused", () => {
  const out = new MessageBuilder().beginMessage(1, 0, 1);
  const nested = out.beginNested(1);
  out.raw(new Uint8Array(70000));
  assert.throws(() => out.endAttribute(nested), /70004 bytes exceeds 65535/);
  assert.throws(() => out.attribute(1, new Uint8Array(65532)), RangeError);
  assert.throws(() => out.text("ä"), TypeError);
});

Deno.test("byte strings are compared whole, whatever their place in memory", () => {
  const memory = new Uint8Array(64).map((_, index) => index % 16);
  for (const start of [0, 1, 4]) {
    for (const length of [0, 1, 4, 7, 12]) {
      const a = memory.subarray(start, start + length);
      const b = memory.slice(start + 16, start + 16 + length);
      assert.equal(sameBytes(a, b), true, `${start} ${length}`);
      assert.equal(sameBytes(a, memory.subarray(start, start + length + 1)), false);
      for (let at = 0; at < length; at++) {
        const changed = b.slice();
        changed[at]! ^= 0x80;
        assert.equal(sameBytes(a, changed), false, `${start} ${length} ${at}`);
      }
    }
  }
});
