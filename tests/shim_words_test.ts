/** The words between shim and agent, and that both ends of them say the same. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { misfitOf, ShimError, withPaths } from "../src/shim/places.ts";
import * as words from "../src/shim/words.ts";

const source = Deno.readTextFileSync(new URL("../src/shim/shim.c", import.meta.url));
const bytes = (text: string) => new TextEncoder().encode(text);

/** The value of a constant of the C file, in whichever of its ways it is written. */
function constant(name: string): number {
  const found = new RegExp(`(?:#define ${name}|${name} =) *\\(?([0-9][0-9 *]*)`).exec(source);
  ok(found !== null, `shim.c has no ${name}`);
  return found[1]!.split("*").map(Number).reduce((a, b) => a * b, 1);
}

Deno.test("the shim's C file and its TypeScript twin have the same numbers", () => {
  deepEqual(
    [
      "VERSION_OF_WORDS",
      "ENVIRONMENT_LIMIT",
      "INPUT_LIMIT",
      "OUTPUT_LIMIT",
      "TAKING_MILLISECONDS",
      "ANSWER_MILLISECONDS",
      "REQUEST_HEAD",
      "ANSWER_HEAD",
    ].map(constant),
    [
      words.wordsVersion,
      words.environmentLimit,
      words.inputLimit,
      words.outputLimit,
      words.takingMilliseconds,
      words.answerMilliseconds,
      words.requestHeadSize,
      words.answerHeadSize,
    ],
  );
});

Deno.test("the shim's source is one file of at most 300 lines", () => {
  ok(source.trimEnd().split("\n").length <= 300);
});

const variables = fc.array(
  fc.tuple(
    fc.stringMatching(/^[A-Z0-9_]{0,9}$/).map((name) => `CNI_${name}`),
    fc.string({ unit: "grapheme", maxLength: 30 }).map((text) => text.replaceAll("\0", "")),
  ),
  { maxLength: 8 },
);

Deno.test("a request is read as it was written, the first variable of a name", () => {
  fc.assert(
    fc.property(variables, fc.uint8Array(), fc.boolean(), (environment, input, sendsNamespace) => {
      const written = words.formatRequest({ sendsNamespace, environment, input });
      const read = words.parseRequest(written);
      equal(words.parseRequestHead(written).length, written.length);
      equal(read.sendsNamespace, sendsNamespace);
      deepEqual([...read.input], [...input]);
      const first = new Map<string, string>();
      for (const [name, value] of environment) if (!first.has(name)) first.set(name, value);
      deepEqual(read.environment, first);
    }),
  );
});

Deno.test("what is no request is refused with its reason, whatever it is", () => {
  const good = words.formatRequest({
    sendsNamespace: true,
    environment: [["CNI_COMMAND", "ADD"]],
    input: bytes("{}"),
  });
  const changed = (at: number, value: number) => {
    const copy = good.slice();
    new DataView(copy.buffer).setUint32(at, value, true);
    return copy;
  };
  const parse = (request: Uint8Array) => () => words.parseRequest(request);
  throws(parse(changed(0, 1)), /another kind/);
  throws(parse(changed(4, 2)), /version 2/);
  throws(parse(changed(8, 3)), /flags are 3/);
  throws(parse(changed(12, words.environmentLimit + 1)), /at most/);
  throws(parse(changed(16, words.inputLimit + 1)), /at most/);
  throws(parse(changed(16, 3)), /has 38 bytes, expected 39/);
  throws(parse(changed(12, 15)), /expected 37/);
  throws(parse(good.subarray(0, 19)), /the head alone has 20/);
  const other = (text: string) => {
    const environment = bytes(text);
    const request = new Uint8Array(words.requestHeadSize + environment.length);
    request.set(good.subarray(0, words.requestHeadSize));
    const view = new DataView(request.buffer);
    view.setUint32(12, environment.length, true);
    view.setUint32(16, 0, true);
    request.set(environment, words.requestHeadSize);
    return request;
  };
  throws(parse(other("PATH=/bin\0")), /not "PATH"/);
  throws(parse(other("CNI_COMMAND\0")), /expected variables/);
  throws(parse(other("CNI_A=b")), /NUL/);
  const invalid = other("CNI_A=b\0");
  invalid[words.requestHeadSize + 6] = 0xff;
  throws(parse(invalid), /UTF-8/);
  fc.assert(
    fc.property(fc.uint8Array(), fc.nat(40), (noise, at) => {
      const request = good.slice();
      request.set(noise.subarray(0, request.length - at % 38), at % 38);
      try {
        words.parseRequest(request);
      } catch (error) {
        ok(error instanceof words.WordsError, String(error));
      }
    }),
  );
});

Deno.test("an answer is read as it was written, and what is none is refused", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<0 | 1>(0, 1),
      fc.uint8Array(),
      fc.uint8Array(),
      (exitCode, stdout, stderr) => {
        const written = words.formatAnswer({ kind: "answered", exitCode, stdout, stderr });
        const read = words.parseAnswer(written);
        ok(read.kind === "answered");
        deepEqual([read.exitCode, ...read.stdout, ...read.stderr], [
          exitCode,
          ...stdout,
          ...stderr,
        ]);
        throws(() => words.parseAnswer(written.subarray(0, -1)), words.WordsError);
      },
    ),
  );
  deepEqual(words.parseAnswer(words.formatAnswer({ kind: "run-it-yourself" })), {
    kind: "run-it-yourself",
  });
});

Deno.test("an answer that the shim would not take says that it shall run the plugin itself", () => {
  const answer = (length: number) =>
    words.parseAnswer(words.formatAnswer({
      kind: "answered",
      exitCode: 0,
      stdout: new Uint8Array(length),
      stderr: new Uint8Array(1),
    })).kind;
  equal(answer(words.outputLimit - 1), "answered");
  equal(answer(words.outputLimit), "run-it-yourself");
});

Deno.test("paths go where their marks are, and what does not fit is refused with its bound", () => {
  const shim = bytes(
    `x${"kuma-cni:plugin\0"}${"\0".repeat(512)}${"kuma-cni:socket\0"}${"\0".repeat(108)}`,
  );
  const paths = { socket: "/etc/cni/call.sock", program: "/opt/cni/kuma-cni" };
  const text = new TextDecoder().decode(withPaths(shim, paths));
  ok(text.includes("kuma-cni:socket\0/etc/cni/call.sock\0"));
  ok(text.includes("kuma-cni:plugin\0/opt/cni/kuma-cni\0"));
  throws(() => withPaths(bytes("no shim"), paths), ShimError);
  equal(misfitOf(paths), undefined);
  equal(misfitOf({ ...paths, socket: `/${"a".repeat(106)}` }), undefined);
  ok(misfitOf({ ...paths, socket: `/${"a".repeat(107)}` })!.includes("108 bytes, at most 107"));
  ok(misfitOf({ ...paths, program: "kuma-cni" })!.includes("absolute"));
  ok(misfitOf({ ...paths, program: "/a\0b" })!.includes("NUL"));
});
