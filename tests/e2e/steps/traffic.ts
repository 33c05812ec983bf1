/** Pods as the injector writes them, with real Envoys as sidecars, and where their traffic goes. */
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { injectedPod } from "../../support/pods.ts";
import { meshName } from "../support/sidecar.ts";
import { assertCarried, demo, type Stage } from "../support/stage.ts";
import { withProbe, workload } from "../support/workload.ts";

/** Adds the steps; their pods stay. @returns Whether these are there. */
export async function traffic(t: Deno.TestContext, stage: Stage): Promise<boolean> {
  const { cluster } = stage;
  const areThere = await t.step(
    "pods of both annotations and both kinds of sidecar are ready",
    async () => {
      const settings = { form: "2.9" } as const;
      await stage.create({ name: "web", ...settings }, { labels: { serves: "web" } });
      await stage.create({ name: "native", form: "3", nativeSidecar: true });
      await stage.create({ name: "native-2-9", ...settings, nativeSidecar: true });
      await stage.create({ name: "client", form: "3" });
      await stage.create({ name: "gateway", gateway: true });
      for (const name of ["web", "native", "native-2-9", "client", "gateway"]) {
        await stage.ready(name);
      }
      await stage.startPlain("plain");
      // When the API server was away, kube-proxy asks again after a while, and refuses until then.
      for (const address of await stage.serviceAddresses("web")) {
        await cluster.until(`kube-proxy knows ${address}`, async () => {
          return (await stage.request("plain", address)).status === "200";
        }, 120_000);
      }
    },
  );
  if (!areThere) return false;

  for (const client of ["client", "native", "native-2-9"]) {
    for (const [index, family] of ["IPv4", "IPv6"].entries()) {
      await t.step(
        `${client} asks web at its Service's ${family} address through both`,
        async () => {
          const address = (await stage.serviceAddresses("web"))[index]!;
          assertCarried(await stage.request(client, address), ["outbound", "inbound"]);
        },
      );
    }
  }
  await t.step("a pod outside the mesh reaches web through web's sidecar alone", async () => {
    for (const address of await stage.serviceAddresses("web")) {
      assertCarried(await stage.request("plain", address), ["inbound"]);
    }
  });
  await t.step("a gateway's requests go through its sidecar, and none to it", async () => {
    for (const address of await stage.serviceAddresses("web")) {
      assertCarried(await stage.request("gateway", address), ["outbound", "inbound"]);
    }
    const { status } = await stage.ready("gateway");
    const { podIPs } = status as { podIPs: { ip: string }[] };
    for (const { ip } of podIPs) assertCarried(await stage.request("plain", ip, 8080), []);
  });

  await t.step("DNS of a meshed pod is answered by its sidecar, of another one not", async () => {
    const ask = (pod: string) =>
      stage.exec(pod, ["timeout", "3", "nslookup", meshName.name, "10.96.0.10"]);
    const { stdout } = await ask("client");
    for (const address of [meshName.ipv4, meshName.ipv6]) ok(stdout.includes(address), stdout);
    notEqual((await ask("plain")).code, 0);
  });

  await t.step(
    "kubelet's probes reach the sidecar's port for them, and tell a failure",
    async () => {
      const pod = workload(injectedPod({ name: "probed", namespace: demo }));
      await cluster.apply(withProbe(pod));
      const { status } = await stage.ready("probed");
      const { podIPs } = status as { podIPs: { ip: string }[] };
      for (const { ip } of podIPs) {
        // The sidecar has no such path there; had it come by the inbound port, it would say so.
        const { status, head } = await stage.request("plain", ip, 9001);
        equal(status, "404");
        ok(!head.includes("x-carried-inbound"), head);
      }
      await stage.exec("probed", ["rm", "/www/index.html"]);
      await cluster.until("the pod is not ready", async () => {
        const args = ["-n", demo, "get", "pod", "probed"];
        const path = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}';
        return (await cluster.kubectl(...args, path)) === "False";
      });
    },
  );

  await t.step("a pod in a user namespace of its own is captured", async () => {
    await stage.start({ name: "own-users", form: "3", nativeSidecar: true }, {
      userNamespace: true,
      labels: { serves: "shop" },
    });
    const { stdout } = await stage.exec("own-users", ["cat", "/proc/self/uid_map"]);
    notEqual(stdout.trim().split(/\s+/)[1], "0", "The pod must have a user namespace");
    for (const address of await stage.serviceAddresses("web")) {
      assertCarried(await stage.request("own-users", address), ["outbound", "inbound"]);
    }
    for (const address of await stage.serviceAddresses("shop")) {
      assertCarried(await stage.request("client", address), ["outbound", "inbound"]);
    }
  });

  await t.step("kuma-validation passes in both families", async () => {
    const log = await cluster.kubectl("-n", demo, "logs", "client", "-c", "kuma-validation");
    deepEqual(log.trim().split("\n"), ["127.0.0.6 is redirected", "::6 is redirected"]);
  });
  await t.step("kuma-validation fails where the namespace is excluded", async () => {
    const name = "excluded";
    await stage.create({ name, namespace: "kube-system" }, { light: true });
    await cluster.until("the validation has failed", async () => {
      const args = ["-n=kube-system", "logs", name, "-c", "kuma-validation"];
      return (await cluster.tryKubectl(args)).stdout.includes("127.0.0.6 is not redirected");
    });
    await cluster.kubectl("-n=kube-system", "delete", "pod", name, "--grace-period=0", "--force");
  });

  await t.step("kubectl logs has the plugin's decision for each pod", async () => {
    const log = await stage.agentLog();
    for (const name of ["client", "native", "gateway", "own-users"]) {
      match(log, new RegExp(`\tkuma-cni\tPod's traffic is redirected .*"${name}"`));
    }
    match(log, /\tkuma-cni\tPod is skipped.*"plain"/);
  });
  return true;
}
