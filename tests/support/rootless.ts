/**
 * Runs test files as a root that has no power outside a user namespace of its own: first outside
 * ({@linkcode runRootless}), then inside, where this file is the program.
 */
import assert from "node:assert/strict";
import { setLinkUp } from "./topology.ts";
import { LinuxError } from "../../src/linux/errno.ts";
import { withNetworkNamespace } from "../../src/linux/network_namespace.ts";

/** What a rootless run printed and how it ended. */
export interface RootlessResult {
  readonly success: boolean;
  readonly output: string;
}

/**
 * Runs tests inside new user, network and mount namespaces. Users 0–65535 exist in them: as root
 * they are mapped one to one, else from the caller's subordinate users by `newuidmap`.
 *
 * @param args arguments of `deno test`, for example `["tests/traffic_test.ts"]`
 * @throws {Error} when this machine cannot make user namespaces; the message says what is missing
 */
export async function runRootless(args: readonly string[]): Promise<RootlessResult> {
  const root = new URL("../../", import.meta.url).pathname;
  // The shell waits for its users to be mapped; then exec gives it the powers of the inner root.
  const script = 'echo ready && read -r go && mount -t tmpfs tmpfs /run && exec "$@"';
  const inner = [Deno.execPath(), "run", "-A", new URL(import.meta.url).pathname, ...args];
  const child = new Deno.Command("unshare", {
    args: ["--user", "--net", "--mount", "sh", "-c", script, "sh", ...inner],
    cwd: root,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const stdout = child.stdout.getReader();
  const decoder = new TextDecoder();
  let output = decoder.decode((await stdout.read()).value ?? new Uint8Array());
  const stdin = child.stdin.getWriter();
  try {
    if (!output.startsWith("ready")) {
      throw new Error(
        "Cannot make a user namespace: allow it (sysctl user.max_user_namespaces, " +
          `kernel.unprivileged_userns_clone) or run on another machine: ${await stderr}`,
      );
    }
    mapUsers(child.pid);
    await stdin.write(new TextEncoder().encode("go\n"));
  } finally {
    await stdin.close().catch(() => {});
  }
  for (let part = await stdout.read(); !part.done; part = await stdout.read()) {
    output += decoder.decode(part.value, { stream: true });
  }
  output += await stderr;
  return { success: (await child.status).success, output };
}

/** Maps users and groups 0–65535 into the user namespace of a process. */
function mapUsers(pid: number): void {
  if (Deno.uid() === 0) {
    for (const kind of ["uid", "gid"]) {
      Deno.writeTextFileSync(`/proc/${pid}/${kind}_map`, "0 0 65536\n");
    }
    return;
  }
  const user = new TextDecoder().decode(
    new Deno.Command("id", { args: ["--user", "--name"] }).outputSync().stdout,
  ).trim();
  for (const [kind, own] of [["uid", Deno.uid()], ["gid", Deno.gid()]] as const) {
    const [, first, count] = readSubordinate(`/etc/sub${kind}`, user);
    const { success, stderr } = new Deno.Command(`new${kind}map`, {
      args: [pid, 0, own ?? 0, 1, 1, first, Math.min(count, 65535)].map(String),
    }).outputSync();
    if (!success) {
      throw new Error(`Cannot map users with new${kind}map: ${new TextDecoder().decode(stderr)}`);
    }
  }
}

function readSubordinate(path: string, user: string): [string, number, number] {
  const line = Deno.readTextFileSync(path).split("\n").find((l) => l.startsWith(`${user}:`));
  const [, first, count] = line?.split(":") ?? [];
  if (first === undefined || Number(count) < 6000) {
    throw new Error(
      `User "${user}" has too few subordinate users in "${path}": want at least 6000; run the ` +
        'tests as root, or add a line such as "' + user + ':100000:65536"',
    );
  }
  return [user, Number(first), Number(count)];
}

/** Inside: proves that this root is powerless outside, and runs the tests. */
function main(args: readonly string[]): number {
  assert.equal(Deno.uid(), 0);
  assert.notEqual(Deno.readTextFileSync("/proc/self/uid_map").trim().split(/\s+/)[2], "4294967295");
  assert.throws(() => withNetworkNamespace("/proc/1/ns/net", () => {}), LinuxError);
  setLinkUp("lo"); // The API server stand-in listens there.
  const { code } = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", ...args],
    stdout: "inherit",
    stderr: "inherit",
  }).outputSync();
  return code;
}

if (import.meta.main) Deno.exit(main(Deno.args));
