/**
 * What `install-cni manifests` prints, given to a real API server and a real kubelet: every platform by
 * a server-side dry run, one of them for good in place of the reference's objects. The cluster's
 * programs are built from source, once, so this is for the long tests only.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type KubernetesObject, manifestObjects } from "../installer/manifests/objects.ts";
import { treeOfRow } from "../installer/manifests/platforms.ts";
import { yamlText } from "../installer/manifests/render.ts";
import type { Tree } from "../installer/manifests/tree.ts";
import { memberAt, resolveValues, setAt } from "../installer/manifests/values.ts";
import { platformRows } from "../scripts/values_docs.ts";
import { conflistName } from "./support/bridge_network.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { KubernetesCluster } from "./support/kubernetes_cluster.ts";
import {
  accountObjects,
  installerImage,
  installerObjects,
  rights,
} from "./support/reference_manifest.ts";

/** The test's image, where it is, and probes over HTTP. */
function valuesFor(cluster: KubernetesCluster, port: number): KubernetesObject[] {
  const { netDir, binDir } = cluster.containerd;
  const tree: Tree = {};
  const given = {
    "cni.chained": true,
    "cni.netDir": netDir,
    "cni.binDir": binDir,
    "cni.confName": conflistName,
    "cni.healthPort": port,
    "cni.rbac.getDaemonSets": true,
    "cni.image.registry": "kuma-test.local",
    "cni.image.tag": "test",
  };
  for (const [name, value] of Object.entries(given)) setAt(tree, name, value);
  return [...manifestObjects(resolveValues(tree))];
}

async function rolledOut(cluster: KubernetesCluster): Promise<void> {
  const args = ["-n=kube-system", "rollout", "status", "daemonset/kuma-cni-node", "--timeout=120s"];
  const { code, stdout, stderr } = await cluster.run(...args);
  if (code === 0) return;
  const { stdout: pods } = await cluster.run("-n=kube-system", "describe", "pods");
  throw new Error(`${stdout}${stderr}\n${pods}`);
}

async function containerOf(cluster: KubernetesCluster): Promise<Tree> {
  const path = "/apis/apps/v1/namespaces/kube-system/daemonsets/kuma-cni-node";
  const [container] = memberAt(await cluster.get(path), "spec.template.spec.containers") as Tree[];
  return container!;
}

/** What the container's process may do, as the kernel has it. */
async function statusOf(cluster: KubernetesCluster): Promise<string> {
  const args = ["-n=kube-system", "exec", "daemonset/kuma-cni-node", "--"];
  return await cluster.kubectl(...args, "cat", "/proc/1/status");
}

if (Deno.env.get("KUMA_CNI_LONG_TESTS") === "1") {
  Deno.test("manifests in a real cluster", async (t) => {
    const plugin = await compiledPlugin();
    await compiledInstaller();
    const image = await installerImage(plugin.slice(0, plugin.lastIndexOf("/")));
    await using cluster = await KubernetesCluster.start({ images: [image] });

    await t.step("a real API server takes the objects of every platform", async () => {
      for (const { name, platform, facts } of platformRows()) {
        const objects = manifestObjects(resolveValues(treeOfRow(platform.row(facts))));
        const said = await cluster.kubectlWith(
          yamlText(objects, [name]),
          "apply",
          "--server-side",
          "--dry-run=server",
          "--filename=-",
        );
        equal(said.trim().split("\n").length, objects.length, `${name}: ${said}`);
      }
    });

    await t.step("they take the place of the reference's objects", async () => {
      const { netDir, binDir } = cluster.containerd;
      await cluster.apply(
        ...accountObjects(rights.reference),
        ...installerObjects({ netDir, binDir, confName: conflistName }),
      );
      await rolledOut(cluster);
      await cluster.kubectlWith(yamlText(valuesFor(cluster, 0), []), "apply", "--filename=-");
      await rolledOut(cluster);
      const container = await containerOf(cluster);
      deepEqual([container.command, container.args ?? []], [["/install-cni"], []]);
    });

    await t.step(
      "install-cni is ready without a capability, by HTTP, and so can be alive",
      async () => {
        await cluster.kubectlWith(yamlText(valuesFor(cluster, 9910), []), "apply", "--filename=-");
        await rolledOut(cluster);
        const status = await statusOf(cluster);
        for (const set of ["CapEff", "CapPrm", "CapBnd"]) {
          match(status, new RegExp(`^${set}:\\t0+$`, "m"));
        }
        match(status, /^NoNewPrivs:\t1$/m);
        const container = await containerOf(cluster);
        ok(
          "httpGet" in (container.readinessProbe as Tree) &&
            !("exec" in (container.readinessProbe as Tree)),
        );
        const list = JSON.parse(
          Deno.readTextFileSync(`${cluster.containerd.netDir}/${conflistName}`),
        );
        equal(list.plugins.at(-1).type, "kuma-cni");
      },
    );

    await t.step("objects that Helm has left are replaced", async () => {
      await cluster.kubectl("-n=kube-system", "delete", "daemonset/kuma-cni-node");
      const { netDir, binDir } = cluster.containerd;
      const left = installerObjects({ netDir, binDir, confName: conflistName })
        .filter((object) => (object as Tree).kind === "DaemonSet");
      // As Helm does it: without kubectl's note of what was applied.
      await cluster.kubectlWith(JSON.stringify(left[0]), "create", "--filename=-");
      await rolledOut(cluster);
      const text = yamlText(valuesFor(cluster, 9910), []);
      await cluster.kubectlWith(text, "replace", "--save-config", "--filename=-");
      await rolledOut(cluster);
      deepEqual((await containerOf(cluster)).args ?? [], []);
    });

    await t.step("deleting the DaemonSet, then the rest, leaves nothing in the list", async () => {
      await cluster.kubectl("-n=kube-system", "delete", "daemonset/kuma-cni-node");
      const path = `${cluster.containerd.netDir}/${conflistName}`;
      await cluster.until(
        "the entry is gone",
        () => !Deno.readTextFileSync(path).includes("kuma-cni"),
        60_000,
      );
      const rest = valuesFor(cluster, 9910).filter(({ kind }) => kind !== "DaemonSet");
      await cluster.kubectlWith(yamlText(rest, []), "delete", "--filename=-");
    });
  });
}
