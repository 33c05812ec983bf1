/**
 * The whole of it with Debian's containerd: install-cni puts the plugin into a running runtime's
 * folders, sandboxes start with and without rules, and everything goes away without a trace.
 */
import assert from "node:assert/strict";
import { libc } from "../src/linux/libc.ts";
import { bridgeAddress, conflistName } from "./support/bridge_network.ts";
import { requestOf, Stage } from "./support/containerd_stage.ts";
import { injectedPod, plainPod } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

Deno.test("sandboxes get their rules while the agent dies and others write, and all goes away", async () => {
  await using stage = await Stage.set({ confName: "" });
  const { containerd, node } = stage;
  const before = await stage.hostFiles();
  await stage.install();

  const meshed = await stage.run(injectedPod({ name: "meshed" }));
  stage.assertRedirected(meshed);
  const plain = await stage.run(plainPod({ name: "plain" }));
  stage.assertUntouched(plain);

  // Without the agent the plugin looks up its pod itself.
  await node.stop("SIGKILL");
  const orphan = await stage.run(injectedPod({ name: "orphan" }));
  stage.assertRedirected(orphan);
  const plainOrphan = await stage.run(plainPod({ name: "plain-orphan" }));
  stage.assertUntouched(plainOrphan);
  await stage.install();
  await node.until("the new agent serves", () => node.isServing());
  const adopted = await stage.run(injectedPod({ name: "adopted", form: "3" }));
  stage.assertRedirected(adopted);
  await node.until(
    "the new agent has the plugin's log",
    () => /kuma-cni\tPod's traffic is redirected.*"adopted"/.test(node.log),
  );

  // Another program writes its list anew, as primary plugins do when they restart.
  const rewritten = stage.conflist('\n  "disableCheck": true,');
  replaceFile(`${containerd.netDir}/${conflistName}`, rewritten);
  await node.until("the list is chained again", () => {
    const text = Deno.readTextFileSync(`${containerd.netDir}/${conflistName}`);
    return text.includes("disableCheck") && text.includes("kuma-cni");
  });
  await containerd.untilLoaded("bridge", "kuma-cni");
  const late = await stage.run(injectedPod({ name: "late" }));
  stage.assertRedirected(late);

  const { code, stderr } = await node.run("uninstall");
  assert.equal(code, 0, `${stderr}\n${node.log}`);
  await containerd.untilLoaded("bridge");
  const listPath = `${containerd.netDir}/${conflistName}`;
  assert.equal(Deno.readTextFileSync(listPath), rewritten);
  const listBefore = { [listPath]: before[listPath] };
  assert.deepEqual({ ...await stage.hostFiles(), ...listBefore }, before);
  stage.assertRedirected(meshed);
  await stage.removeAll([meshed, plain, orphan, plainOrphan, adopted, late]);
  assert.equal(await node.stop(), 0);
  assert.deepEqual({ ...await stage.hostFiles(), ...listBefore }, before);
});

Deno.test("an agent whose DaemonSet is gone leaves the host as it was, with sandboxes alive", async () => {
  const env = { POD_NAMESPACE: "kuma-system", POD_NAME: "kuma-cni-node-x" };
  await using stage = await Stage.set({ confName: conflistName, env });
  const { api, containerd, node } = stage;
  const owner = {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { namespace: "kuma-system", name: "kuma-cni-node", uid: crypto.randomUUID() },
  };
  const own = plainPod({ namespace: "kuma-system", name: "kuma-cni-node-x" });
  own.metadata.ownerReferences = [{ ...owner, ...owner.metadata, controller: true }];
  api.store.put(owner);
  api.store.put(own);
  const before = await stage.hostFiles();
  await stage.install();
  const meshed = await stage.run(injectedPod({ name: "meshed" }));
  stage.assertRedirected(meshed);

  // Restarted by a rolling update: the DaemonSet is there, and so the plugin stays.
  assert.equal(await node.stop(), 0);
  assert.deepEqual(await containerd.loadedPlugins(), ["bridge", "kuma-cni"]);
  const between = await stage.run(injectedPod({ name: "between" }));
  stage.assertRedirected(between);
  await stage.install();

  api.store.delete("daemonsets", "kuma-system", "kuma-cni-node");
  assert.equal(await node.stop(), 0, node.log);
  await containerd.untilLoaded("bridge");
  assert.deepEqual(await stage.hostFiles(), before);
  const after = await stage.run(injectedPod({ name: "after" }));
  stage.assertUntouched(after);
  await stage.removeAll([meshed, between, after]);
  assert.deepEqual(await stage.hostFiles(), before);
});

Deno.test("the runtime tells the pod's resolvers and its UID, and shows why a pod was refused", async () => {
  await using stage = await Stage.set({ confName: "" });
  const { api, containerd } = stage;
  await stage.install();
  const config = "traffic.kuma.io/transparent-proxy-config";
  const selective = injectedPod({ name: "selective", form: "3" });
  const annotations = selective.metadata.annotations!;
  annotations[config] = annotations[config]!.replace("captureAll: true", "captureAll: false");
  const servers = [bridgeAddress.ipv4, bridgeAddress.ipv6];
  const toHost = await stage.run(selective, servers);
  stage.assertRedirected(toHost, "host");
  const elsewhere = structuredClone(selective);
  elsewhere.metadata.name = "elsewhere";
  elsewhere.metadata.uid = crypto.randomUUID();
  const toOthers = await stage.run(elsewhere, ["10.96.0.10", "fd96::10"]);
  stage.assertRedirected(toOthers, "none");

  // The API has a newer pod of that name than the one that is to be started.
  const pod = injectedPod({ name: "recreated" });
  api.store.put(pod);
  const stale = crypto.randomUUID();
  await assert.rejects(
    containerd.runPodSandbox({ ...requestOf(pod), uid: stale }),
    ({ message }: Error) => {
      assert.match(
        message,
        /plugin type="kuma-cni" .*failed \(add\): Could not find out whether pod/,
      );
      assert.ok(message.includes(`"demo/recreated" has the UID "${pod.metadata.uid}"`), message);
      assert.ok(message.includes(`the one with the UID "${stale}"`), message);
      return true;
    },
  );

  const wrong = injectedPod({ name: "wrong", form: "3", annotations: { [config]: "{ port: [" } });
  await assert.rejects(
    stage.run(wrong),
    /failed \(add\): Pod "?demo\/wrong"? cannot be redirected as its annotations ask: .*Correct the annotation/s,
  );
  const [first, second] = [toHost, toOthers];
  await stage.removeAll([first, second]);
});

function replaceFile(path: string, text: string): void {
  Deno.writeTextFileSync(`${path}.new`, text);
  Deno.renameSync(`${path}.new`, path);
}
