/** Whatever ends a task of this project, nothing that it made stays: the promise of `supervise`. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { sweep } from "../scripts/supervise.ts";
import { identityOf, isGone } from "../scripts/task_owner.ts";
import { exists } from "./support/files.ts";
import { uniqueName } from "./support/topology.ts";

const root = new URL("..", import.meta.url).pathname;

/** A task that runs with a folder for temporary files of its own. */
class Task implements Disposable {
  readonly name = uniqueName();
  readonly folder = Deno.makeTempDirSync({ prefix: "kuma-test-" });
  #child: Deno.ChildProcess | undefined;

  start(module: string, args: readonly string[] = []): Deno.ChildProcess {
    return this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", `${root}${module}`, ...args],
      env: { TMPDIR: this.folder, KUMA_CNI_TASK: "", NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  /** What is there of the task, in words; nothing when all is gone. */
  left(): string[] {
    return [
      ...processesOf(this.folder).map((command) => `process ${command}`),
      ...[...Deno.readDirSync(this.folder)].map(({ name }) => `file ${name}`),
      ...(exists(`/run/netns/${this.name}`) ? ["network namespace"] : []),
      ...(Deno.readTextFileSync("/proc/self/mountinfo").includes(this.folder) ? ["mount"] : []),
    ];
  }

  [Symbol.dispose](): void {
    try {
      this.#child?.kill("SIGKILL");
    } catch {
      // It has ended, as it should.
    }
    Deno.removeSync(this.folder, { recursive: true });
  }
}

/** Command lines of processes whose environment has a text. */
function processesOf(text: string): string[] {
  return [...Deno.readDirSync("/proc")].flatMap(({ name }) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      if (!Deno.readTextFileSync(`/proc/${name}/environ`).includes(text)) return [];
      return [Deno.readTextFileSync(`/proc/${name}/cmdline`).replaceAll("\0", " ")];
    } catch {
      return []; // It has ended meanwhile, or its last threads are ending.
    }
  });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!holds()) {
    ok(performance.now() < deadline, `Not within a minute: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Reads until the task has made everything. */
async function made(child: Deno.ChildProcess): Promise<void> {
  let text = "";
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  while (!text.includes("made\n")) {
    const { done, value } = await reader.read();
    ok(!done, `The task ended early: ${text}`);
    text += value;
  }
  // What is left unread is no leak of this test.
  await reader.cancel();
}

const lasting = "tests/support/lasting_task.ts";

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  Deno.test(`after ${signal} nothing of a task is left, and its exit code says so`, async () => {
    using task = new Task();
    const child = task.start(lasting, [task.name]);
    await made(child);
    ok(processesOf(task.folder).some((command) => command.startsWith("sleep")), "none to look for");
    child.kill(signal);
    const status = await child.status;
    await child.stderr.cancel();
    equal(status.code, code);
    deepEqual(task.left(), []);
  });
}

Deno.test("a task that fails leaves nothing, says why and has exit code 1", async () => {
  using task = new Task();
  const { code, stderr } = await task.start(lasting, [task.name, "fail"]).output();
  equal(new TextDecoder().decode(stderr), "The work went wrong\n");
  equal(code, 1);
  deepEqual(task.left(), []);
});

Deno.test("a killed task leaves files alone, which the next one removes; those of others stay", async () => {
  using task = new Task();
  const killed = task.start(lasting, [task.name]);
  await made(killed);
  killed.kill("SIGKILL");
  await killed.status;
  await killed.stderr.cancel();
  await until("its processes are gone", () => processesOf(task.folder).length === 0);
  equal(task.left().filter((what) => !what.startsWith("file kc.")).join(), "");
  equal(task.left().length, 1);

  const living = task.start(lasting, [task.name]);
  await made(living);
  const [folder = ""] = task.left().filter((what) => what.startsWith("file kc."));
  equal(task.left().filter((what) => what.startsWith("file")).length, 1, "the next one swept");

  Deno.mkdirSync(`${task.folder}/kc.other`);
  sweep(task.folder, "kc.");
  ok(task.left().includes(folder), "that of a task that runs stays");
  ok(task.left().includes("file kc.other"), "what names no owner stays");
  Deno.removeSync(`${task.folder}/kc.other`);
  living.kill("SIGTERM");
  await living.status;
  await living.stderr.cancel();
  deepEqual(task.left(), []);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`the demo leaves nothing when ${signal} comes at a random moment`, async () => {
    for (let round = 0; round < 4; round++) {
      using task = new Task();
      const child = task.start("scripts/demo.ts");
      const drained = Promise.all([child.stdout.cancel(), child.stderr.cancel()]);
      const wait = 300 + Math.random() * 3000;
      await new Promise((resolve) => setTimeout(resolve, wait));
      try {
        child.kill(signal);
      } catch {
        // It was faster.
      }
      await child.status;
      await drained;
      deepEqual(task.left(), [], `after ${wait.toFixed(0)} ms`);
    }
  });
}

Deno.test("an owner is gone only when its process is, or its number has another process", async () => {
  const own = identityOf(Deno.pid);
  equal(isGone(own), false);
  const [namespace, pid, started] = own.split(".");
  equal(isGone(`${namespace}.${pid}.1`), true, "another process has the number");
  equal(isGone(`1.${pid}.1`), false, "of another process namespace nothing is known");
  for (
    const text of ["", "x", "a.b", `${own}.1`, `${namespace}.${pid}.-1`, `${namespace}.${pid}.`]
  ) {
    equal(isGone(text), false, `"${text}"`);
  }
  const child = new Deno.Command("sleep", { args: ["1000"], stdin: "null" }).spawn();
  const identity = identityOf(child.pid);
  equal(isGone(identity), false);
  child.kill("SIGKILL");
  await child.status;
  equal(isGone(identity), true);
  match(started ?? "", /^[0-9a-z]+$/);
});

const oneLine: [what: string, args: string[], output: RegExp][] = [
  ["an unknown test name", ["scripts/test.ts", "nosuchname".repeat(2)], /^No test: .*\n$/],
  [
    "an unknown measurement",
    ["scripts/bench.ts", "nosuch"],
    /^Unknown measurement "nosuch": .*\n$/,
  ],
  ["an unknown program", ["scripts/build.ts", "--only", "x"], /^Cannot build program "x": .*\n$/],
  ["an unknown option", ["scripts/build.ts", "--nosuch"], /^Unknown option '--nosuch'.*\n$/],
];

for (const [what, [module = "", ...args], output] of oneLine) {
  Deno.test(`${what} is one line`, async () => {
    using task = new Task();
    const { code, stderr } = await task.start(module, args).output();
    match(new TextDecoder().decode(stderr), output);
    equal(code, 1);
  });
}

Deno.test("every task explains itself with --help", async () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(`${root}deno.json`));
  for (const command of Object.values(tasks as Record<string, string>)) {
    using task = new Task();
    const [, module = ""] = /^deno run -A (scripts\/\w+\.ts)(?: [\w-]+)*$/.exec(command) ?? [];
    const { code, stdout } = await task.start(module, ["--help"]).output();
    equal(code, 0, command);
    match(new TextDecoder().decode(stdout), /^Usage: deno task \w+/, command);
  }
});
