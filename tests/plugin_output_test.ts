/**
 * The compiled plugin's stdin, stdout and limits: nobody takes a call for a success whose answer got
 * lost, and what a caller hands over costs no more than it is long.
 */
import assert from "node:assert/strict";
import { compiledPlugin, pluginOfRuntime } from "./support/compiled.ts";
import { withFolder } from "./support/files.ts";

const plugin = await pluginOfRuntime();
/** For what a process of its own is held to: an agent that does the call has limits of its own. */
const fullPlugin = await compiledPlugin();

const variables = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "e96a5a12",
  CNI_NETNS: "/var/run/netns/cni-that-is-gone",
  CNI_IFNAME: "eth0",
  CNI_PATH: "/opt/cni/bin",
};

const config = { cniVersion: "1.0.0", name: "bed", type: "kuma-cni" };
const usual = JSON.stringify(config);

/** Runs a shell script with the plugin as `$0` and a configuration on its stdin. */
async function shell(
  script: string,
  stdin = usual,
  change: Readonly<Record<string, string>> = {},
  program = plugin,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = new Deno.Command("bash", {
    args: ["-c", script, program],
    env: { ...variables, PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...change },
    clearEnv: true,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin)).catch(() => {});
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await output;
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

Deno.test("an answer that nobody got is not a success", async () => {
  const lost = {
    "is closed": '"$0" >&-',
    "is read-only": '"$0" 1</etc/passwd',
    "has no room": '"$0" >/dev/full',
    "is a pipe without a reader": 'trap "" PIPE; ( sleep 0.3; "$0"; echo $? >&3 ) 3>&2 | true',
  };
  for (const [what, script] of Object.entries(lost)) {
    const { code, stdout, stderr } = await shell(script);
    if (what.startsWith("is a pipe")) assert.equal(stderr, "1\n", what);
    else assert.deepEqual([code, stdout], [1, ""], `stdout ${what}`);
  }
  // What has nothing to say loses nothing, and nobody has to listen.
  assert.equal((await shell('"$0" >&-', undefined, { CNI_COMMAND: "DEL" })).code, 0);
  assert.equal((await shell('"$0" >/dev/null')).code, 0);
});

Deno.test("an answer on a stdout that does not block arrives whole", async () => {
  // Two processes share a pipe's end, and with it whether it blocks; the reader is slow.
  const script = String.raw`use Fcntl; pipe(R, W);
fcntl(W, F_SETFL, fcntl(W, F_GETFL, 0) | O_NONBLOCK);
unless ($child = fork) { close R; open(STDOUT, ">&W"); exec @ARGV }
close W; select(undef, undef, undef, 0.3);
while (sysread(R, $piece, 65536)) { $n += length $piece; select(undef, undef, undef, 0.0005) }
waitpid($child, 0); print $? >> 8, " $n\n"`;
  const previous = JSON.stringify({ cniVersion: "1.0.0", pad: "x".repeat(2_000_000) });
  const stdin = `{"name":"bed","cniVersion":"1.0.0","prevResult":${previous}}`;
  const { stdout } = await shell(`exec perl -e '${script}' "$0"`, stdin);
  assert.equal(stdout, `0 ${previous.length}\n`);
});

Deno.test("a limit of file sizes stops no call that has given its answer", async () => {
  await withFolder(async (folder) => {
    const stdin = JSON.stringify({ ...config, kubernetes: { kubeconfig: `${folder}/kubeconfig` } });
    const { code, stdout } = await shell('ulimit -f 0; "$0"', stdin, {}, fullPlugin);
    assert.deepEqual([code, stdout], [0, '{"cniVersion":"1.0.0"}']);
    assert.equal(Deno.statSync(`${folder}/kuma-cni.d/kuma-cni.log`).size, 0);
    const file = await shell(`ulimit -f 0; "$0" >${folder}/answer`, stdin, {}, fullPlugin);
    assert.equal(file.code, 1, "An answer that a file cannot take is lost");
  });
});

Deno.test("a working directory that is gone or out of reach stops no call", async () => {
  await withFolder(async (folder) => {
    const gone = `mkdir ${folder}/gone; cd ${folder}/gone; rmdir ${folder}/gone; "$0"`;
    assert.deepEqual(await shell(gone), { code: 0, stdout: '{"cniVersion":"1.0.0"}', stderr: "" });
    // Out of reach: the folder's file system is unmounted below the process.
    const detached = `mkdir ${folder}/m; mount -t tmpfs none ${folder}/m; cd ${folder}/m
umount -l ${folder}/m; "$0"`;
    assert.deepEqual(await shell(`unshare -m bash -c '${detached}' "$0"`), {
      code: 0,
      stdout: '{"cniVersion":"1.0.0"}',
      stderr: "",
    });
  });
});

Deno.test("limits below which nothing of the plugin runs look like no success", async () => {
  const limits = {
    "open files": 'ulimit -n 8; "$0"',
    "stack": 'ulimit -c 0; ulimit -s 64; "$0"',
    "/proc": `unshare -m bash -c 'mount -t tmpfs none /proc; "$0"' "$0"`,
  };
  for (const [limit, script] of Object.entries(limits)) {
    const { code, stdout } = await shell(`${script} 2>/dev/null`, usual, {}, fullPlugin);
    assert.notEqual(code, 0, limit);
    assert.equal(stdout, "", limit);
  }
  for (const enough of ["ulimit -n 16", "ulimit -s 128"]) {
    const { code, stdout } = await shell(`${enough}; "$0"`, usual, {}, fullPlugin);
    assert.deepEqual([code, stdout], [0, '{"cniVersion":"1.0.0"}'], enough);
  }
});

Deno.test("nothing that a caller hands over is echoed at length", async () => {
  await withFolder(async (folder) => {
    const long = "x".repeat(120_000);
    const stdin = JSON.stringify({
      ...config,
      log_level: "debug",
      kubernetes: { kubeconfig: `${folder}/kubeconfig`, exclude_namespaces: ["a"] },
    });
    const calls: Record<string, string>[] = [
      { CNI_NETNS: `/${long}` },
      { CNI_CONTAINERID: long, CNI_ARGS: "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b" },
      { CNI_CONTAINERID: `${long} ` },
      { CNI_IFNAME: long },
      { CNI_COMMAND: long },
      { CNI_ARGS: `K8S_POD_NAMESPACE=a;K8S_POD_NAME=${long}` },
      { CNI_ARGS: `K8S_POD_NAMESPACE=b;K8S_POD_NAME=${long}` },
      { CNI_ARGS: `K8S_POD_NAMESPACE=b;K8S_POD_NAME=b;K8S_POD_UID=${long}` },
      { CNI_ARGS: `K8S_POD_INFRA_CONTAINER_ID=${long};IP=1` },
      { CNI_ARGS: `${long}=1` },
      { CNI_ARGS: long },
    ];
    for (const change of calls) {
      const { stdout } = await shell('"$0"', stdin, change);
      assert.ok(stdout.length < 2000, `${JSON.stringify(change).slice(0, 60)}: ${stdout.length}`);
    }
    const log = Deno.readTextFileSync(`${folder}/kuma-cni.d/kuma-cni.log`);
    for (const line of log.split("\n")) assert.ok(line.length < 2500, line.slice(0, 300));
  });
});

/** Peak memory in MiB of a call that waits for its answer's reader, or none when it did not wait. */
async function peakOf(stdin: string): Promise<number | undefined> {
  const child = new Deno.Command(fullPlugin, {
    env: variables,
    clearEnv: true,
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  await writer.close();
  const reader = child.stdout.getReader({ mode: "byob" });
  // The first bytes have come, so the input is parsed; the pipe is too small for the rest.
  const { value } = await reader.read(new Uint8Array(1));
  const status = Deno.readTextFileSync(`/proc/${child.pid}/status`);
  const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
  assert.ok(value?.length === 1);
  await reader.cancel();
  await child.status;
  return peak;
}

Deno.test("reading stdin takes memory in proportion to its bytes", async () => {
  const withPrevious = (value: string) =>
    `{"cniVersion":"1.0.0","name":"bed","prevResult":{"a":${value}}}`;
  const mebibyte = 1024 * 1024;
  const base = await peakOf(withPrevious(`"${"x".repeat(mebibyte)}"`)) ?? 0;
  const texts = {
    "one long text": `"${"x".repeat(8 * mebibyte - 100)}"`,
    "one long text of other letters": `"${"é".repeat(4 * mebibyte - 100)}"`,
    "as many objects as allowed, and a long text": `["${"x".repeat(7 * mebibyte)}",${
      "{},".repeat(120_000)
    }0]`,
    "as deep as allowed, and a long text": `["${"x".repeat(7 * mebibyte)}",${"[".repeat(240_000)}${
      "]".repeat(240_000)
    }]`,
  };
  for (const [what, value] of Object.entries(texts)) {
    const stdin = withPrevious(value);
    const bytes = new TextEncoder().encode(stdin).length / mebibyte;
    assert.ok(bytes <= 8, `${what}: ${bytes} MiB`);
    const peak = await peakOf(stdin) ?? 0;
    assert.ok(peak < base + 12 * bytes, `${what}: ${peak} MiB for ${bytes} MiB, base ${base} MiB`);
  }
  const tooMany = [
    `[${"[],".repeat(2_500_000)}0]`,
    `[${"{},".repeat(2_500_000)}0]`,
    `${"[".repeat(4_000_000)}${"]".repeat(4_000_000)}`,
    `[${"0,".repeat(4_000_000)}0]`,
  ];
  for (const value of tooMany) {
    const started = performance.now();
    const { code, stdout } = await shell('"$0"', withPrevious(value));
    assert.equal(code, 1);
    assert.deepEqual(
      [JSON.parse(stdout).code, JSON.parse(stdout).msg],
      [6, "Network configuration on stdin has more than 250000 values"],
    );
    assert.ok(performance.now() - started < 5000);
  }
});
