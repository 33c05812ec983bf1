import assert from "node:assert/strict";
import { parseRequest } from "../src/agent/messages.ts";
import { formatRecord } from "../src/log/log.ts";

const hostile = "a\nb\tc\r\u001b[2J\u0085d\u009b31m\u2028\u2029\u202eevil\u2066\u200f\u007f\0";
const start = "1970-01-01T00:00:00.000Z\tINFO\tkuma-cni\t";

Deno.test("nothing in a record can forge a line, command a terminal, or turn text round", () => {
  const record = { time: 0, severity: "info", logger: "kuma-cni", fields: {} } as const;
  const inMessage = formatRecord({ ...record, message: hostile });
  assert.match(inMessage.slice(start.length), /^[ -~]+$/);
  const inFields = formatRecord({
    ...record,
    message: "m",
    fields: { [hostile]: { deep: [hostile] } },
  });
  assert.match(inFields.slice(start.length), /^m\t[ -~]+$/);
  assert.deepEqual(JSON.parse(inFields.slice(start.length + 2)), {
    [hostile]: { deep: [hostile] },
  });
  assert.match(formatRecord({ ...record, logger: hostile, message: "" }), /^[ -~\t]+$/);
  assert.equal(formatRecord({ ...record, message: 'Zürich "x"' }), `${start}Zürich "x"`);
});

Deno.test("a record's time must be one that can be written", () => {
  const line = (time: number) =>
    JSON.stringify({
      type: "finish",
      records: [{ time, severity: "info", logger: "kuma-cni", message: "m", fields: {} }],
    });
  assert.equal(parseRequest(line(8.64e15)).type, "finish");
  assert.throws(() => parseRequest(line(8.65e15)), TypeError);
  assert.throws(() => parseRequest(line(-1e300)), TypeError);
});

Deno.test("a JSON line is one object, whose fields nobody can mistake for its head", async () => {
  const program = `
    import { stderrSink } from "./src/log/stderr.ts";
    stderrSink("json")({
      time: 0,
      severity: "warn",
      logger: "kuma-cni",
      message: "a\\nb\\u202e",
      fields: { level: "error", time: 1, pod: "x\\u2028y" },
    });
  `;
  const { stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", program],
    cwd: new URL("..", import.meta.url),
  }).output();
  const line = new TextDecoder().decode(stderr);
  assert.equal(line.indexOf("\n"), line.length - 1);
  assert.match(line, /^[\x20-\x7e]*\n$/);
  assert.deepEqual(JSON.parse(line), {
    time: "1970-01-01T00:00:00.000Z",
    level: "warn",
    logger: "kuma-cni",
    message: "a\nb\u202e",
    fields: { level: "error", time: 1, pod: "x\u2028y" },
  });
});
