/** `install-cni doctor` on healthy nodes of each platform, and what it counts and asks there. */
import { deepEqual, equal, match } from "node:assert/strict";
import { onHost } from "../installer/commands/doctor_settings.ts";
import { diagnose } from "../installer/doctor/diagnosis.ts";
import { pathsOf } from "../installer/settings/paths.ts";
import { parseSettings } from "../installer/settings/settings.ts";
import { putEntry } from "../src/ledger/folder.ts";
import { DoctorBed, nodeName } from "./support/doctor_bed.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";
import "./support/load_libc.ts";
import { platformNodes } from "./support/platform_nodes.ts";
import { injectedPod, plainPod } from "./support/pods.ts";

for (const [name, node] of Object.entries(platformNodes)) {
  Deno.test(`doctor finds nothing wrong on a healthy node: ${name}`, async () => {
    await using bed = await DoctorBed.make(node);
    const seen = await bed.look();
    const { runtime } = seen.observed.view;
    equal(runtime.isCertain, node.basis !== undefined || node.environment !== undefined);
    if (node.basis !== undefined) equal(runtime.basis, node.basis);
    // By hand nobody tells the folders, and they are found all the same.
    const byHand = onHost({
      ...parseSettings(() => undefined, { needsConfig: false }),
      mountedHostRoot: bed.root,
    });
    if (node.environment === undefined) {
      const inode = (path: string) => bed.operations.targetStatus(path)?.inode;
      equal(inode(byHand.mountedNetDir), inode(bed.settings.mountedNetDir));
      equal(inode(byHand.mountedBinDir), inode(bed.settings.mountedBinDir));
    }
    const { exitCode, verdict, findings } = diagnose(seen);
    const wrong = findings.filter(({ grade }) => grade === "failure" || grade === "warning");
    // While all cores are busy even an API server at hand answers slowly.
    deepEqual(wrong.filter(({ code }) => code !== "api-slow"), []);
    equal(exitCode, wrong.length === 0 ? 0 : 1);
    match(verdict, /^Healthy: meshed pods that start now are captured/);
  });
}

Deno.test("doctor knows the net dir of MicroK8s where only its configuration is seen", async () => {
  await using bed = await DoctorBed.make(platformNodes["MicroK8s"]);
  const path = "/var/snap/microk8s/current/args/containerd.toml";
  const mounted = `${bed.host.root}/mounted`;
  Deno.mkdirSync(`${mounted}${path.slice(0, path.lastIndexOf("/"))}`, { recursive: true });
  Deno.copyFileSync(bed.path(path), `${mounted}${path}`);
  bed.environment.MOUNTED_HOST_ROOT = mounted;
  deepEqual((await bed.troubles()).filter((code) => code !== "api-slow"), []);
});

Deno.test("doctor takes the last entry about a pod, a static one by kubelet's own UID", async () => {
  const hash = "0123456789abcdef0123456789abcdef";
  const annotations = {
    "kubernetes.io/config.hash": hash,
    "kubernetes.io/config.mirror": hash,
  };
  await using bed = await DoctorBed.make({
    objects: [
      injectedPod({ namespace: "demo", name: "app-0", uid: "uid-1", nodeName }),
      injectedPod({ namespace: "demo", name: "static", uid: "uid-2", nodeName, annotations }),
    ],
  });
  const { stateDir } = pathsOf(bed.settings);
  const last = ledgerEntry({ sandbox: "s-1" });
  const skipped = { result: "skipped", reason: "no-sidecar" } as const;
  // Folders are listed in any order, so there is an earlier one before and behind it.
  for (const sandbox of ["a", "b", "y", "z"]) {
    putEntry(stateDir, { ...last, sandbox, time: last.time - 1, outcome: skipped });
  }
  putEntry(stateDir, last);
  putEntry(stateDir, ledgerEntry({ sandbox: "s-2", podName: "static", podUid: hash }));
  const { findings } = await bed.diagnose();
  equal(
    findings.find(({ subject }) => subject === "pods")?.text,
    "Meshed pods of this node: 2 of 2, all captured",
  );
});

Deno.test("doctor asks more than the plugin, and only the plugin's question tells of the API server", async () => {
  await using bed = await DoctorBed.make();
  for (const verb of ["list", "create"] as const) {
    bed.api.inject({ kind: "status", code: 503 }, { verb });
  }
  const { findings } = await bed.diagnose();
  deepEqual(findings.filter(({ code }) => code === "api-down"), []);
  for (const subject of ["pods", "rights"]) {
    equal(findings.find((finding) => finding.subject === subject)?.grade, "unknown");
  }
});

Deno.test("doctor counts the node's other pods as what they are", async () => {
  await using bed = await DoctorBed.make({
    objects: [
      plainPod({ namespace: "shop", name: "plain", nodeName }),
      injectedPod({ namespace: "shop", name: "web-0", nodeName }),
      injectedPod({ namespace: "shop", name: "elsewhere", nodeName: "node-y" }),
    ],
  });
  bed.cache("shop", "web-0", true);
  const told = async () =>
    (await bed.diagnose()).findings.find(({ subject }) => subject === "pods");
  equal((await told())?.text, "Meshed pods of this node: 1 of 2, all captured");
  bed.api.store.put(injectedPod({ namespace: "shop", name: "web-1", nodeName }));
  const unknown = await told();
  equal(unknown?.grade, "unknown", "what nothing tells of is not called captured");
  match(unknown?.text ?? "", /^Whether 1 of 2 meshed pods are captured cannot/);
});
