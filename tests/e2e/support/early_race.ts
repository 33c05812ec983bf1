/**
 * Pods that a real containerd starts before the plugin is chained, with kubelet played and the real
 * agent coming late; run in process IDs of its own, where the first process can be seen. Prints how
 * long the repair took.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { part } from "../../../scripts/e2e/parts.ts";
import { readEntries } from "../../../src/ledger/folder.ts";
import { withNetworkNamespace } from "../../../src/linux/network_namespace.ts";
import { seeProcesses } from "../../../installer/ledger/processes.ts";
import { IMAGE, type Sandbox } from "../../support/containerd.ts";
import { requestOf, Stage } from "../../support/containerd_stage.ts";
import { namespaceState } from "../../support/namespace_state.ts";
import { unifiedCgroups } from "../../support/pod_cgroup.ts";
import { injectedPod, type PodObject } from "../../support/pods.ts";
import { reportedPod } from "../../support/reported_pod.ts";
import { isCaptured } from "../../support/sandbox_probe.ts";

/** As Kuma's validation does it: what goes to 127.0.0.6 must come in at the sidecar's port. */
const validation = `cd /bin && /bin/busybox httpd -p 15006 -h /bin
until /bin/busybox wget -qO /dev/null http://127.0.0.6:61234/busybox
do /bin/busybox sleep 0.1; done`;
const sidecarUser = 5678;

/** A pod that containerd has started. */
interface EarlyPod {
  readonly object: PodObject;
  readonly sandbox: Sandbox;
  /** Its only container, which waits for the rules. */
  readonly container: string;
}

const stage = await Stage.set({
  confName: "",
  programs: {
    containerd: await part("containerd"),
    runc: await part("runc"),
    plugins: await part("cni-plugins"),
  },
  env: { REPAIR_EARLY_PODS: "waiting", SWEEP_INTERVAL: "0" },
});
const { containerd, node, api } = stage;

async function early(name: string): Promise<EarlyPod> {
  const object = injectedPod({ name });
  const sandbox = await stage.run(object);
  const container = await containerd.startContainer(sandbox.id, requestOf(object), {
    metadata: { name: "kuma-validation", attempt: 0 },
    image: { image: IMAGE },
    command: ["/bin/busybox", "sh", "-c", validation],
    linux: { security_context: { run_as_user: { value: sidecarUser } } },
  });
  return { object, sandbox, container };
}

function report(pod: EarlyPod, { isServing = false, ips = pod.sandbox.ips } = {}): void {
  api.store.put(reportedPod(pod.object, { ips, container: pod.container, isServing }));
}

function stateOf({ sandbox }: EarlyPod): string {
  return withNetworkNamespace(sandbox.networkNamespace, namespaceState);
}

/** Puts a process into the control groups of another. */
function joinGroups(pid: number, ofPid: number): void {
  for (const line of Deno.readTextFileSync(`/proc/${ofPid}/cgroup`).trim().split("\n")) {
    const [, controllers = "", path = ""] = line.split(":");
    if (!path.includes("kubepods")) continue;
    const hierarchy = controllers === ""
      ? unifiedCgroups()
      : `/sys/fs/cgroup/${controllers.replace(/^name=/, "")}`;
    Deno.writeTextFileSync(`${hierarchy}${path}/cgroup.procs`, `${pid}`);
  }
}

try {
  const names = ["waiting", "serving", "swapped-1", "swapped-2", "visited", "visitor", "dead"];
  const pods = new Map<string, EarlyPod>();
  for (const name of names) pods.set(name, await early(name));
  const pod = (name: string) => pods.get(name)!;

  const { pid } = await containerd.containerStatus(pod("visitor").container);
  // It ends with this script, as everything of these process IDs does.
  const guest = new Deno.Command("nsenter", {
    args: [`--net=${pod("visited").sandbox.networkNamespace}`, "sleep", "1000000"],
  }).spawn();
  joinGroups(guest.pid, pid);

  const dead = pod("dead");
  const holder = seeProcesses().find(({ place }) =>
    place.kind === "container" && place.container === dead.sandbox.id
  );
  ok(holder !== undefined, "containerd's sandbox must have a process");
  Deno.kill(holder.pid, "SIGKILL");

  const others = names.filter((name) => name !== "waiting").map(pod);
  const before = others.map(stateOf);
  equal(isCaptured(pod("waiting").sandbox.networkNamespace), false);

  await stage.install();
  await node.until("pods are followed", () => node.log.includes("Pods of this node are followed"));
  report(pod("serving"), { isServing: true });
  report(pod("swapped-1"), { ips: pod("swapped-2").sandbox.ips });
  report(pod("swapped-2"), { ips: pod("swapped-1").sandbox.ips });
  for (const name of ["visited", "visitor", "dead", "waiting"]) report(pod(name));

  const started = performance.now();
  const waiting = pod("waiting");
  await node.until("the pod's validation has passed", async () => {
    return !(await containerd.containerStatus(waiting.container)).running;
  });
  const milliseconds = Math.round(performance.now() - started);
  equal((await containerd.containerStatus(waiting.container)).exitCode, 0);
  match(node.log, /Pod started without its rules and was repaired in \d+ ms\t.*"waiting"/);
  await containerd.startContainer(waiting.sandbox.id, requestOf(waiting.object), {
    metadata: { name: "app", attempt: 0 },
    image: { image: IMAGE },
    command: ["/bin/busybox", "sleep", "1000000"],
  });
  stage.assertRedirected(waiting.sandbox);

  const expected = {
    "serving": /sidecar serves already, so it is left as it is/,
    "swapped-1": /does not have the pod's address/,
    "swapped-2": /does not have the pod's address/,
    "visited": new RegExp(`process ${guest.pid}, which is not the pod's, is in its`),
    "visitor": /its processes are in 2 network namespaces/,
    // With its first process a container of its own process IDs goes, too.
    "dead": /its sandbox has no process of its own|no process of it is seen/,
  };
  for (const [name, words] of Object.entries(expected)) {
    await node.until(
      `what is the matter with "${name}" is said`,
      () => node.log.split("\n").some((line) => line.includes(`"${name}"`) && words.test(line)),
    );
  }
  // Long enough for each of them to be tried a few times more.
  await new Promise((resolve) => setTimeout(resolve, 4000));
  deepEqual(others.map(stateOf), before, "no other namespace may be touched");
  const { entries } = readEntries(`${node.netDir}/kuma-cni.d`);
  deepEqual(entries.map(({ sandbox }) => sandbox), [waiting.sandbox.id]);
  console.log(`repaired and validated ${milliseconds} ms after kubelet's report`);
} catch (error) {
  console.error(node.log);
  throw error;
} finally {
  await stage[Symbol.asyncDispose]();
}
// The first process of its IDs: what ends as its orphan would keep it.
Deno.exit(0);
