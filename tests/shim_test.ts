/**
 * The shim itself, as a process: it prints what the agent answers, and whenever anything is not as it
 * should be the full plugin gets the same call. The sanitized build and the one for the other
 * architecture go through the same table.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { describeHeaders } from "./support/program_headers.ts";
import { compileShim, shimSizeLimit } from "../scripts/shim.ts";
import * as words from "../src/shim/words.ts";
import "./support/load_libc.ts";
import { compiledShim, hosted, playAgent, ShimBed, type Start, start } from "./support/shim.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const call = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c", CNI_NETNS: "/proc/self/ns/net" };
const config = bytes('{"cniVersion":"1.0.0","name":"n","type":"kuma-cni"}');
const ordinary: Start = { env: { ...call, PATH: "/bin:/usr/bin" }, stdin: config };

const builds = [
  { name: "the shim", kind: Deno.build.arch, behind: [] },
  { name: "the sanitized shim", kind: "sanitized", behind: [] },
  ...Deno.build.arch === "x86_64"
    ? [{ name: "the shim for aarch64", kind: "aarch64", behind: ["qemu-aarch64"] } as const]
    : [],
] as const;

/**
 * Reads a whole request, its begin byte by byte: a read ends where the bytes end that a descriptor came
 * with, and Deno takes a read that fills only a part of its buffer for the last one for now.
 */
async function readRequest(connection: Deno.Conn): Promise<words.ShimRequest> {
  const read = new Uint8Array(words.requestHeadSize + words.environmentLimit + words.inputLimit);
  let wanted = words.requestHeadSize;
  for (let at = 0; at < wanted;) {
    const n = await connection.read(read.subarray(at, at < 65536 ? at + 1 : wanted));
    if (n === null) throw new Error("The shim has hung up");
    at += n;
    if (at === words.requestHeadSize) wanted = words.parseRequestHead(read).length;
  }
  return words.parseRequest(read.subarray(0, wanted));
}

async function writeAll(connection: Deno.Conn, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length;) at += await connection.write(data.subarray(at));
}

const good = words.formatAnswer({
  kind: "answered",
  exitCode: 1,
  stdout: bytes('{"code":7}'),
  stderr: bytes("words of the agent"),
});
const printed = { code: 1, stdout: '{"code":7}', stderr: "words of the agent" };
const changed = (at: number, value: number) => {
  const copy = good.slice();
  new DataView(copy.buffer).setUint32(at, value, true);
  return copy;
};
const answering = (answer: Uint8Array) => async (connection: Deno.Conn) => {
  await readRequest(connection);
  await writeAll(connection, answer);
};

/** Starts the shim and the plugin alone; both must come to the same. */
async function assertFallsBack(
  bed: ShimBed,
  given: Start,
  behind: readonly string[],
  what: string,
): Promise<void> {
  const expected = await start(bed.plugin, given);
  equal(expected.code, 7, what);
  const actual = await start(bed.shim, { ...given, behind });
  deepEqual(actual, expected, what);
}

/** What is in the place of the agent, by what is wrong with it. */
const agents: Readonly<Record<string, (connection: Deno.Conn) => Promise<void>>> = {
  "hangs up at once": () => Promise.resolve(),
  "hangs up after the request": async (connection) => void await readRequest(connection),
  "says nothing whole": answering(good.subarray(0, 20)),
  "is gone half-way": answering(good.subarray(0, good.length - 1)),
  "says: run it yourself": answering(words.formatAnswer({ kind: "run-it-yourself" })),
  "says an unknown verdict": answering(changed(8, 2)),
  "speaks other words": answering(changed(0, 1)),
  "speaks another version": answering(changed(4, 2)),
  "says an unknown exit code": answering(changed(12, 2)),
  "promises more than it sends": answering(changed(16, 11)),
  "sends more than it promised": answering(changed(16, 9)),
  "promises more than is taken": answering(changed(20, words.outputLimit)),
  "promises lengths that overflow": answering(changed(20, 0xffffffff)),
  "floods": answering(new Uint8Array(8 * 1024 * 1024)),
};

/** Calls that are nothing for the agent, or look odd. */
const calls: Readonly<Record<string, Start>> = {
  "an ordinary one": ordinary,
  "no stdin": { ...ordinary, stdin: new Uint8Array() },
  "closed stdin": { ...ordinary, shell: 'exec "$@" <&-' },
  "a folder as stdin": { ...ordinary, shell: 'exec "$@" < /' },
  "a variable of 100 KiB": {
    ...ordinary,
    env: { ...ordinary.env, CNI_ARGS: "x".repeat(100 * 1024) },
  },
  "more variables than are sent": {
    ...ordinary,
    env: {
      ...ordinary.env,
      ...Object.fromEntries(
        Array.from({ length: 16 }, (_, i) => [`CNI_X${i}`, "x".repeat(100 * 1024)]),
      ),
    },
  },
  "a thousand variables": {
    ...ordinary,
    env: {
      ...ordinary.env,
      ...Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`CNI_X${i}`, "v"])),
    },
  },
  "1 MiB of stdin": { ...ordinary, stdin: new Uint8Array(words.inputLimit).fill(120) },
  "a byte more": { ...ordinary, stdin: new Uint8Array(words.inputLimit + 1).fill(120) },
  "3 MB of stdin": { ...ordinary, stdin: new Uint8Array(3_000_000).fill(120) },
  "a namespace that is not there": {
    ...ordinary,
    env: { ...ordinary.env, CNI_NETNS: "/not/there" },
  },
};

for (const { name, kind, behind } of builds) {
  Deno.test(`${name} prints the agent's answer`, async () => {
    using bed = new ShimBed(await compiledShim(kind));
    const requests: words.ShimRequest[] = [];
    await using _ = playAgent(bed.socket, async (connection) => {
      requests.push(await readRequest(connection));
      await writeAll(connection, good);
    });
    deepEqual(await start(bed.shim, { ...ordinary, behind }), printed);
    const [request] = requests;
    equal(request?.sendsNamespace, true);
    deepEqual(Object.fromEntries(request!.environment), call);
    deepEqual(request!.input, config);
  });

  Deno.test(`${name} takes an answer that comes byte by byte, and one as long as can be`, async () => {
    using bed = new ShimBed(await compiledShim(kind));
    const long = new Uint8Array(words.outputLimit - 3).fill(65);
    const answers = [
      { exitCode: 1, stdout: bytes('{"code":7}'), stderr: bytes("abc") },
      { exitCode: 0, stdout: long, stderr: bytes("abc") },
      { exitCode: 0, stdout: new Uint8Array(), stderr: new Uint8Array() },
    ] as const;
    for (const answer of answers) {
      const whole = words.formatAnswer({ kind: "answered", ...answer });
      await using _ = playAgent(bed.socket, async (connection) => {
        await readRequest(connection);
        if (whole.length > 1000) return await writeAll(connection, whole);
        for (const byte of whole) await writeAll(connection, Uint8Array.of(byte));
      });
      const { code, stdout, stderr } = await start(bed.shim, { ...ordinary, behind });
      equal(code, answer.exitCode);
      equal(stdout.length, answer.stdout.length);
      equal(stderr, new TextDecoder().decode(answer.stderr));
    }
  });

  Deno.test(`${name} has the plugin do what the agent does not`, async () => {
    using bed = new ShimBed(await compiledShim(kind));
    for (const [what, serve] of Object.entries(agents)) {
      await using _ = playAgent(bed.socket, serve);
      await assertFallsBack(bed, ordinary, behind, `an agent that ${what}`);
    }
  });

  Deno.test(`${name} has the plugin do every call, whatever it looks like, without an agent`, async () => {
    using bed = new ShimBed(await compiledShim(kind));
    const places: Readonly<Record<string, () => void>> = {
      "nothing": () => {},
      "a file": () => Deno.writeTextFileSync(bed.socket, ""),
      "a folder": () => Deno.mkdirSync(bed.socket),
      "a FIFO": () => void new Deno.Command("mkfifo", { args: [bed.socket] }).outputSync(),
      "a socket that nobody serves": () =>
        Deno.listen({ transport: "unix", path: bed.socket }).close(),
    };
    for (const [what, make] of Object.entries(places)) {
      make();
      await assertFallsBack(bed, ordinary, behind, `${what} in the agent's place`);
      await Deno.remove(bed.socket).catch(() => {});
    }
    for (const [what, given] of Object.entries(calls)) {
      await assertFallsBack(bed, given, behind, what);
    }
  });

  Deno.test(`${name} gives back to the plugin what it has read, whatever the call looks like`, async () => {
    using bed = new ShimBed(await compiledShim(kind));
    await using _ = playAgent(
      bed.socket,
      answering(words.formatAnswer({ kind: "run-it-yourself" })),
    );
    for (const [what, given] of Object.entries(calls)) {
      await assertFallsBack(bed, given, behind, what);
    }
    const byHand = { ...ordinary, args: ["--version"] };
    await assertFallsBack(bed, byHand, behind, "an argument");
    await assertFallsBack(bed, { env: {} }, behind, "no environment");
    await assertFallsBack(bed, { env: { CNI_COMMAND: "" } }, behind, "an empty command");
  });
}

Deno.test("the shim believes nobody but root", async () => {
  const parameters = ["i64", "i64", "i64", "i64"] as const;
  const libc = Deno.dlopen("libc.so.6", { syscall: { parameters, result: "i64" } });
  const setresuid = Deno.build.arch === "x86_64" ? 117n : 147n;
  const setEffectiveUser = (uid: bigint) => libc.symbols.syscall(setresuid, -1n, uid, -1n);
  using bed = new ShimBed(await compiledShim());
  Deno.chmodSync(bed.folder, 0o777);
  equal(Number(setEffectiveUser(65534n)), 0);
  let agent: AsyncDisposable;
  try {
    // Who listens is noted at listen(2), and only this thread is another user.
    agent = playAgent(bed.socket, answering(good));
  } finally {
    setEffectiveUser(0n);
  }
  await using _ = agent;
  await assertFallsBack(bed, ordinary, [], "another user's socket");
  libc.close();
});

Deno.test("the shim does not wait for an agent whose queue is full", async () => {
  using bed = new ShimBed(await compiledShim());
  using listener = Deno.listen({ transport: "unix", path: bed.socket });
  const waiting: Deno.Conn[] = [];
  try {
    // Nobody takes them, so that the kernel refuses the one after the last that it keeps.
    while (waiting.length < 10_000) {
      waiting.push(await Deno.connect({ transport: "unix", path: bed.socket }));
    }
  } catch {
    ok(waiting.length > 1);
  }
  const began = performance.now();
  equal((await start(bed.shim, ordinary)).code, 7);
  ok(performance.now() - began < words.answerMilliseconds - 500);
  for (const connection of waiting) connection.close();
  equal(listener.addr.transport, "unix");
});

Deno.test("the shim waits 3 s for an agent that says nothing or dawdles", async () => {
  using bed = new ShimBed(await compiledShim());
  const dawdle = async (connection: Deno.Conn) => {
    await readRequest(connection);
    for (const byte of good) {
      await new Promise((resolve) => setTimeout(resolve, 150));
      await writeAll(connection, Uint8Array.of(byte));
    }
  };
  const silent = async (connection: Deno.Conn) => {
    await readRequest(connection);
    await connection.read(new Uint8Array(1));
  };
  const timed = async (serve: (connection: Deno.Conn) => Promise<void>, socket: ShimBed) => {
    await using _ = playAgent(socket.socket, serve);
    const began = performance.now();
    equal((await start(socket.shim, ordinary)).code, 7);
    return performance.now() - began;
  };
  using other = new ShimBed(await compiledShim());
  for (const took of await Promise.all([timed(silent, bed), timed(dawdle, other)])) {
    ok(took >= words.answerMilliseconds - 50 && took < 8000, `${took} ms`);
  }
});

Deno.test("the shim waits 1 s for an agent that does not take the call, however long it is", async () => {
  using bed = new ShimBed(await compiledShim());
  // Accepted by the kernel alone, as for an agent that is stopped.
  await using _ = playAgent(bed.socket, (connection) => {
    const ended = Promise.withResolvers<void>();
    setTimeout(ended.resolve, 2500);
    return ended.promise.finally(() => connection.read(new Uint8Array(1)));
  });
  const timed = async (stdin: Uint8Array) => {
    const began = performance.now();
    equal((await start(bed.shim, { ...ordinary, stdin })).code, 7);
    return performance.now() - began;
  };
  // The longer one does not even fit into the socket.
  for (const took of await Promise.all([config, new Uint8Array(words.inputLimit)].map(timed))) {
    ok(
      took >= words.takingMilliseconds - 50 && took < words.answerMilliseconds - 500,
      `${took} ms`,
    );
  }
});

Deno.test("stdin of 1 GiB does not stop the shim, and the plugin gets more than it takes", async () => {
  using bed = new ShimBed(await compiledShim());
  await using _ = playAgent(bed.socket, answering(good));
  const { code, stdout } = await start(bed.shim, {
    ...ordinary,
    shell: 'head -c 1073741824 /dev/zero | "$@"',
  });
  equal(code, 7);
  const length = Number(stdout.split("\n")[1]);
  ok(length > 8 * 1024 * 1024 && length < 16 * 1024 * 1024, `${length} bytes`);
});

Deno.test("stdin that never ends does not end for the plugin, either", async () => {
  using bed = new ShimBed(await compiledShim());
  await using _ = playAgent(bed.socket, answering(good));
  const began = performance.now();
  const { code, stdout } = await start(bed.shim, {
    env: { ...ordinary.env, CNI_IFNAME: "endless" },
    stdin: async (writer) => {
      await writer.write(config);
      await new Promise((resolve) => setTimeout(resolve, 12_000));
    },
  });
  equal(code, 7);
  match(stdout, /has not ended/);
  ok(performance.now() - began >= 9_900);
});

Deno.test("a person who asks for the versions need not close stdin", async () => {
  using bed = new ShimBed(await compiledShim());
  await using _ = playAgent(bed.socket, answering(good));
  deepEqual(
    await start(bed.shim, { env: { CNI_COMMAND: "VERSION" }, stdin: () => Promise.resolve() }),
    printed,
  );
});

Deno.test("an answer that cannot be written is no success", async () => {
  using bed = new ShimBed(await compiledShim());
  const answer = { kind: "answered", exitCode: 0, stdout: bytes("{}"), stderr: bytes("") } as const;
  await using _ = playAgent(bed.socket, answering(words.formatAnswer(answer)));
  equal((await start(bed.shim, ordinary)).code, 0);
  equal((await start(bed.shim, { ...ordinary, shell: 'exec "$@" > /dev/full' })).code, 1);
  const closed = { ...ordinary, shell: '{ sleep 0.3; "$@"; echo $? >&2; } | true' };
  equal((await start(bed.shim, closed)).stderr, "1\n");
});

Deno.test("the shim's error, when even the plugin is gone, is one of the protocol", async () => {
  using bed = new ShimBed(await compiledShim());
  Deno.removeSync(bed.plugin);
  const { code, stdout } = await start(bed.shim, ordinary);
  equal(code, 1);
  equal(JSON.parse(stdout).code, 11);
});

Deno.test("whatever bytes the agent answers, the shim prints an answer or has the plugin do it", async () => {
  for (const kind of [Deno.build.arch, "sanitized"] as const) {
    using bed = new ShimBed(await compiledShim(kind));
    let answer = new Uint8Array();
    await using _ = playAgent(bed.socket, (connection) => answering(answer)(connection));
    const expected = await start(bed.plugin, ordinary);
    const edit = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
    const mutated = fc.tuple(fc.array(edit, { maxLength: 3 }), fc.nat(good.length)).map(
      ([edits, length]) => {
        const copy = good.slice();
        for (const { at, value } of edits) copy[at] = value;
        return length % 3 === 0 ? copy.slice(0, length) : copy;
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutated, fc.uint8Array({ maxLength: 60 })), async (data) => {
        answer = new Uint8Array(data);
        const actual = await start(bed.shim, ordinary);
        let said: words.ShimAnswer = { kind: "run-it-yourself" };
        try {
          said = words.parseAnswer(answer);
        } catch (error) {
          ok(error instanceof words.WordsError);
        }
        if (said.kind === "run-it-yourself") return deepEqual(actual, expected);
        const decode = (part: Uint8Array) => new TextDecoder().decode(part);
        deepEqual(actual, {
          code: said.exitCode,
          stdout: decode(said.stdout),
          stderr: decode(said.stderr),
        });
      }),
      { numRuns: 60 },
    );
  }
});

Deno.test("a call takes less than 1 MiB of memory", async () => {
  using bed = new ShimBed(await compiledShim());
  let pid = 0;
  let peak = Infinity;
  await using _ = playAgent(bed.socket, async (connection) => {
    await readRequest(connection);
    const status = new TextDecoder().decode(
      new Deno.Command("cat", { args: [`/proc/${pid}/status`] }).outputSync().stdout,
    );
    peak = Number(/VmHWM:\s+([0-9]+) kB/.exec(status)?.[1]);
    await writeAll(connection, good);
  });
  const given = { ...ordinary, stdin: new Uint8Array(64 * 1024).fill(32) };
  deepEqual(await start(bed.shim, given, (started) => pid = started), printed);
  ok(peak > 0 && peak <= 1024, `${peak} KiB`);
});

Deno.test("the analyser of gcc finds nothing in the shim", async () => {
  await hosted(["-O1", "-fanalyzer", "-c", "-o", "/dev/null"]);
});

Deno.test("the shim is small, needs nobody, hardened and the same each time", async () => {
  for (const kind of ["x86_64", "aarch64"] as const) {
    if (kind !== Deno.build.arch && Deno.build.arch !== "x86_64") continue;
    const shim = await compiledShim(kind);
    ok(shim.length <= shimSizeLimit, `${shim.length} bytes`);
    const { types, stackFlags, writableAndExecutable, needsInterpreter } = describeHeaders(shim);
    ok(types.includes("GNU_RELRO"), kind);
    equal(stackFlags, 6, "the stack must not be executable");
    equal(writableAndExecutable, false);
    equal(needsInterpreter, false);
    const again = await Deno.makeTempFile({ prefix: "kuma-shim-" });
    try {
      ok(await compileShim(kind, again, () => {}));
      deepEqual(await Deno.readFile(again), shim);
    } finally {
      await Deno.remove(again);
    }
  }
});

Deno.test("without a compiler the build says so and goes on", async () => {
  const before = Deno.env.get("CC");
  Deno.env.set("CC", "/not/there/cc");
  try {
    const said: string[] = [];
    equal(await compileShim(Deno.build.arch, "/not/there/shim", (line) => said.push(line)), false);
    match(said.join(), /No C compiler for .* \(\/not\/there\/cc; CC names another\)/);
    if (Deno.build.arch !== "x86_64") return;
    // A compiler of the machine's own is none for another architecture.
    Deno.env.set("CC", "gcc");
    const output = await Deno.makeTempFile({ prefix: "kuma-shim-" });
    try {
      ok(await compileShim("aarch64", output, () => {}));
      equal((await Deno.readFile(output))[18], 183, "e_machine of AArch64");
    } finally {
      await Deno.remove(output);
    }
  } finally {
    if (before === undefined) Deno.env.delete("CC");
    else Deno.env.set("CC", before);
  }
});
