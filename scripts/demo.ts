/**
 * Shows the main job on this machine: a pod's traffic before and after the compiled plugin was
 * called for it as a container runtime does. Run it as root with `deno task demo`; it needs nothing
 * beyond Deno and Debian's base, touches nothing but network namespaces of its own, and removes
 * them. Exit code 0 when everything went where it should, 1 when not.
 */
import { supervise } from "./supervise.ts";
import { LinuxError } from "../src/linux/errno.ts";
import { messageOf } from "../src/text/message_of.ts";
import { ADDRESSES, Bed } from "../tests/support/bed.ts";
import { Cluster } from "../tests/support/cluster.ts";
import { compiledPlugin } from "../tests/support/compiled.ts";
import { injectedPod, type PodObject } from "../tests/support/pods.ts";
import { attempt, type Probe, probesOf } from "../tests/support/probes.ts";
import { bridgeResult, newContainerId, type PluginAnswer } from "../tests/support/runtime.ts";

const terminal = Deno.stdout.isTerminal();
const utf8 = terminal && /utf-?8/i.test(
  Deno.env.get("LC_ALL") || Deno.env.get("LC_CTYPE") || Deno.env.get("LANG") || "",
);
const paint = (code: number) => (text: string): string =>
  terminal ? `\x1b[${code}m${text}\x1b[0m` : text;
const bold = paint(1);
const dim = paint(2);
const green = paint(32);
const red = paint(31);
const OK = utf8 ? "✓" : "ok";
const ARROW = utf8 ? "→" : "->";

/** One line of the table. */
interface Row {
  readonly probe: Probe;
  readonly before: string;
  readonly after: string;
}

/** What a person reads in the table: where it ended, without the proof in brackets. */
function brief(end: string): string {
  return end
    .replace(/ \((?:for|from) [^)]*\)/g, "")
    .replace(/^(\w+) (udp|tcp) (\d+) for .*$/, "$1:$3")
    .replace(/^E[A-Z]+$/, (code) => code === "ENETUNREACH" ? "unreachable" : code.toLowerCase())
    .replaceAll("->", ARROW);
}

function isExpected({ probe, before, after }: Row): boolean {
  return before === probe.before && after === probe.after;
}

function printTable(rows: readonly Row[]): void {
  const cells = rows.map((row) => [
    row.probe.meaning,
    `${row.probe.who} ${ARROW} ${row.probe.to}`,
    brief(row.before),
    brief(row.after),
  ]);
  const header = ["attempt", `who ${ARROW} where`, "BEFORE", "AFTER"];
  const widths = header.map((title, i) =>
    Math.max(title.length, ...cells.map((line) => line[i]?.length ?? 0))
  );
  const line = (texts: readonly string[]): string =>
    "  " + texts.map((text, i) => text.padEnd(widths[i] ?? 0)).join("  ");
  console.log(bold(line(header) + "  as expected"));
  rows.forEach((row, i) => {
    if (row.probe.meaning === rows[0]?.probe.meaning) {
      console.log(dim(row.probe.to.startsWith("[") ? "  IPv6" : "  IPv4"));
    }
    const verdict = isExpected(row) ? green(OK) : red("NO");
    console.log(line(cells[i] ?? []) + "  " + verdict);
    if (row.before !== row.probe.before) {
      console.log(red(`      before: got "${row.before}", want "${row.probe.before}"`));
    }
    if (row.after !== row.probe.after) {
      console.log(red(`      after: got "${row.after}", want "${row.probe.after}"`));
    }
  });
}

function printCall(command: string, call: { containerId: string; netns: string }): void {
  const shorten = (text: string): string => text.slice(0, 12) + "...";
  console.log(`  CNI_COMMAND=${command} CNI_CONTAINERID=${shorten(call.containerId)}`);
  console.log(`  CNI_NETNS=${call.netns}`);
}

function printAnswer(answer: PluginAnswer, meaning: string): void {
  const text = `${ARROW} exit code ${answer.code} after ${answer.milliseconds.toFixed(0)} ms`;
  if (answer.code === 0) return console.log(`  ${green(text)}: ${meaning}`);
  console.log(`  ${red(text)}`);
  for (const line of `${answer.stdout}\n${answer.stderr}`.trim().split("\n")) {
    console.log("    " + line);
  }
}

async function tryAll(bed: Bed, probes: readonly Probe[]): Promise<string[]> {
  const ends: string[] = [];
  for (const probe of probes) ends.push(await attempt(bed, probe));
  return ends;
}

function printStage(pod: PodObject): void {
  const { ipv4, ipv6 } = ADDRESSES;
  console.log(`  pod      ${ipv4.pod}, ${ipv6.pod}`);
  console.log("           app      uid 1000, listens on 8080");
  console.log("           sidecar  uid 5678, listens on 15001 (outbound), 15006 (inbound),");
  console.log("                    15053 (DNS), 9001 (application probes)");
  console.log("           root     uid 0, any other process in the pod");
  console.log(`  peer     ${ipv4.peer}, ${ipv6.peer}, a remote host on port 80, and the cluster's`);
  console.log(`           DNS service ${ipv4.dns}, ${ipv6.dns}`);
  console.log(
    dim(`  The pod in the API: ${pod.metadata.namespace}/${pod.metadata.name}, with the`),
  );
  console.log(dim("  annotations that Kuma's injector writes, among them"));
  for (const [key, value] of Object.entries(pod.metadata.annotations ?? {})) {
    if (/injected|sidecar-uid|proxying-(in|out)bound-port|builtin-dns$/.test(key)) {
      console.log(dim(`    ${key}: "${value}"`));
    }
  }
}

/** Runs the demo; tells whether everything went as expected. */
async function demo(): Promise<boolean> {
  const step = (text: string): void => console.log("\n" + bold(text));
  console.log(
    bold(
      "This shows how kuma-cni makes a pod's connections go through its sidecar, on this machine.",
    ),
  );
  console.log(
    "  A sidecar is the proxy that a service mesh runs in each pod, beside the application:",
  );
  console.log(
    "  the mesh encrypts, routes and counts what passes through it. The plugin changes the",
  );
  console.log(
    "  kernel's rules in the pod's network namespace, so that no connection can miss it.",
  );

  step("1. Build the plugin, unless dist/kuma-cni is up to date");
  const started = performance.now();
  // Said while it works: a build takes seconds on a quiet machine, a minute on a busy one.
  const progress = setInterval(() => {
    console.log(dim(`  building, ${((performance.now() - started) / 1000).toFixed(0)} s ...`));
  }, 3000);
  const plugin = await compiledPlugin().finally(() => clearInterval(progress));
  console.log(`  ${plugin} (${((performance.now() - started) / 1000).toFixed(1)} s)`);

  step("2. Make a pod, a remote host and an API server on this machine");
  const pod = injectedPod({ namespace: "demo", name: "app-1" });
  await using cluster = await Cluster.start(plugin, [pod]);
  await using bed = await Bed.create();
  printStage(pod);

  step("3. Try connections: nothing is captured yet");
  const probes = [...probesOf("ipv4", "2.9"), ...probesOf("ipv6", "2.9")];
  const before = await tryAll(bed, probes);
  console.log(`  ${probes.length} connections and DNS queries made`);

  step("4. Call the plugin as containerd does");
  const prevResult = bridgeResult(bed.podNetns, {
    ipv4: ADDRESSES.ipv4.pod,
    ipv6: ADDRESSES.ipv6.pod,
    gateway4: ADDRESSES.ipv4.router,
  });
  const call = { containerId: newContainerId(), netns: bed.podNetns, prevResult };
  printCall("ADD", call);
  console.log(`  CNI_ARGS=...;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=app-1;K8S_POD_UID=...`);
  console.log("  standard input: network configuration with the kubeconfig's path and prevResult");
  const added = await cluster.call("ADD", pod, call);
  const unchanged = added.stdout.trim() === JSON.stringify(prevResult);
  printAnswer(
    added,
    `rules installed and verified, prevResult ${unchanged ? "returned unchanged" : "CHANGED"}`,
  );
  for (const { method, target } of cluster.api.requests) {
    console.log(dim(`  The API server was asked: ${method} ${target}`));
  }

  step("5. Try the same connections again");
  const after = await tryAll(bed, probes);
  const rows = probes.map((probe, i): Row => ({
    probe,
    before: before[i] ?? "",
    after: after[i] ?? "",
  }));
  console.log(
    dim(`  "sidecar:15001" means: the connection ended at the sidecar's port 15001. Its ports:`),
  );
  console.log(
    dim("    15001 outgoing connections, 15006 incoming ones, 15053 DNS, 9001 health probes"),
  );
  console.log(
    dim(`  "app:8080" and "peer:80" ended at the application and at the remote host themselves.`),
  );
  printTable(rows);
  const good = rows.filter(isExpected).length;
  if (good === rows.length) {
    console.log(
      dim("  Captured connections still told the sidecar where they had been going, and it"),
    );
    console.log(dim("  passed inbound ones on to the app from 127.0.0.6 and ::6."));
  }

  step("6. Let the plugin check its rules");
  printCall("CHECK", call);
  const checked = await cluster.call("CHECK", pod, call);
  printAnswer(checked, "the installed rules are the expected ones");

  const fine = good === rows.length && added.code === 0 && unchanged && checked.code === 0;
  const verdict =
    `${good} of ${rows.length} as expected, ADD ${added.code === 0 ? "ok" : "failed"}` +
    `, CHECK ${checked.code === 0 ? "ok" : "failed"}`;
  console.log("\n" + bold(fine ? green(`PASSED: ${verdict}`) : red(`FAILED: ${verdict}`)));
  console.log("  All that was made here goes when this ends. What now:");
  console.log("    README.md, By hand on a node      put the plugin onto a node with install-cni");
  console.log(
    "    install-cni rules pod.yaml        what would be done to a pod of yours, and why",
  );
  console.log("    install-cni explain pod.yaml ...  what happens to one connection");
  return fine;
}

/** Says why the demo cannot run here, `undefined` when it can. */
function obstacle(): string | undefined {
  if (Deno.build.os !== "linux") {
    return "The demo needs Linux: the plugin works on Linux network namespaces";
  }
  if (Deno.uid() !== 0) {
    return "The demo needs root, since it makes network namespaces: run the same command as root, " +
      'for example "sudo npx --yes deno@2.6.8 task demo"';
  }
  if (!mappedUsers().every((exists) => exists)) {
    return "The demo needs the users 1000 and 5678, which do not exist in this user namespace: map " +
      "users 0 to 65535 into it, or run the demo as root outside of it";
  }
  return undefined;
}

/** Whether the users that the stand-ins become exist in this user namespace; see user_namespaces(7). */
function mappedUsers(): boolean[] {
  const map = Deno.readTextFileSync("/proc/self/uid_map").trim().split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number));
  return [1000, 5678].map((uid) =>
    map.some(([first = 0, , count = 0]) => uid >= first && uid < first + count)
  );
}

const help = `Usage: deno task demo

Shows on this machine what the plugin does to a pod's traffic: builds it unless it is up to date,
makes a pod, a remote host and an API server in network namespaces of its own, tries connections
before and after the plugin was called, and removes everything. Needs root on Linux.
Exit code 0 when everything went where it should.
`;

async function main(): Promise<number> {
  if (Deno.args.includes("--help") || Deno.args.includes("-h")) {
    console.log(help);
    return 0;
  }
  const reason = obstacle();
  if (reason !== undefined) {
    console.error(reason);
    return 1;
  }
  try {
    return await demo() ? 0 : 1;
  } catch (error) {
    console.error(red(messageOf(error)));
    if (error instanceof LinuxError && error.code === "EPERM") {
      console.error(
        "This root may not make network namespaces (a container without CAP_SYS_ADMIN and " +
          "CAP_NET_ADMIN?): run the demo on a machine, a virtual machine or a privileged container",
      );
    } else if (error instanceof Error) {
      console.error(error.stack);
    }
    return 1;
  }
}

if (import.meta.main) await supervise(import.meta.url, main);
