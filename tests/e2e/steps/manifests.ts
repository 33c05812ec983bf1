/** What `install-cni manifests` prints, as a real API server and a real kubelet take it. */
import { equal, match, ok } from "node:assert/strict";
import { manifestObjects } from "../../../installer/manifests/objects.ts";
import { treeOfRow } from "../../../installer/manifests/platforms.ts";
import { yamlText } from "../../../installer/manifests/render.ts";
import { resolveValues } from "../../../installer/manifests/values.ts";
import { platformRows } from "../../../scripts/values_docs.ts";
import type { Stage } from "../support/stage.ts";

/** Adds a step: the API server itself validates the objects of each platform; none may be there yet. */
export async function objectsOfAllPlatforms(t: Deno.TestContext, stage: Stage): Promise<void> {
  await t.step("the API server takes the objects of every platform", async () => {
    const rows = platformRows();
    ok(rows.length > 5, "There are more platforms");
    for (const { name, platform, facts } of rows) {
      const objects = manifestObjects(resolveValues(treeOfRow(platform.row(facts))));
      const args = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--filename=-",
      ];
      const { code, stdout, stderr } = await stage.cluster.tryKubectl(
        args,
        yamlText(objects, [name]),
      );
      equal(code, 0, `${name}: ${stderr}`);
      equal(stdout.trim().split("\n").length, objects.length, `${name}: ${stdout}`);
    }
  });
}

/** Adds a step: the agents' container has no right beyond those of its files. */
export async function withoutCapabilities(t: Deno.TestContext, stage: Stage): Promise<void> {
  await t.step("install-cni is ready without a capability, by HTTP", async () => {
    const { cluster } = stage;
    const exec = ["-n=kube-system", "exec", "daemonset/kuma-cni-node", "--"];
    const status = await cluster.kubectl(...exec, "cat", "/proc/1/status");
    for (const set of ["CapEff", "CapPrm", "CapBnd"]) {
      match(status, new RegExp(`^${set}:\\t0+$`, "m"));
    }
    match(status, /^NoNewPrivs:\t1$/m);
    match(status, /^Seccomp:\t2$/m);
    const path = "/apis/apps/v1/namespaces/kube-system/daemonsets/kuma-cni-node";
    const { spec } = await cluster.get<{
      spec: { template: { spec: { containers: { readinessProbe: object }[] } } };
    }>(path);
    const [container] = spec.template.spec.containers;
    ok("httpGet" in container!.readinessProbe && !("exec" in container!.readinessProbe));
  });
}
