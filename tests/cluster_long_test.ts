/**
 * The whole of it in a real Kubernetes cluster: the reference's DaemonSet with our image, pods that
 * a real kubelet starts, and what nodes go through. The cluster's programs are built from source,
 * once, so this is for the long tests only (`deno task test:long cluster`).
 */
import assert from "node:assert/strict";
import { conflistName, probedPods } from "./support/bridge_network.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { IMAGE, type Sandbox } from "./support/containerd.ts";
import { contentsOf } from "./support/files.ts";
import { KubernetesCluster } from "./support/kubernetes_cluster.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import {
  accountObjects,
  installerImage,
  installerObjects,
  rights,
} from "./support/reference_manifest.ts";
import {
  isCaptured,
  probe,
  type ProbedPod,
  redirected,
  untouched,
} from "./support/sandbox_probe.ts";

const namespace = "demo";
/** A node takes 110 pods. */
const POD_INTERVAL_MS = 1000;

if (Deno.env.get("KUMA_CNI_LONG_TESTS") === "1") {
  Deno.test("a real cluster", async (t) => {
    await using stage = await Stage.set();
    const before = await stage.hostFiles();

    await t.step(
      "the reference's DaemonSet becomes ready with the reference's rights",
      async () => {
        await stage.install(rights.reference);
        await stage.untilLogged(/Pods of this node are not followed.*403: pods is forbidden/);
      },
    );
    await t.step("pods get their rules, or none, and the log says so", () => stage.startBoth());
    await t.step("no pod fails or is missed while the DaemonSet rolls", () => stage.roll());
    await t.step("no pod fails or is missed while an installer takes long to start", async () => {
      await stage.roll(20);
    });
    await t.step("without the API server a pod waits rather than start without rules", async () => {
      const first = await stage.start(injectedPod({ namespace, name: "patient" }));
      await stage.cluster.killApiServer();
      await stage.cluster.containerd.stopPodSandbox(first.id);
      await pause(5000);
      assert.equal(await stage.readySandbox("patient"), undefined);
      await stage.cluster.startApiServer();
      stage.assertRedirected(await stage.anotherSandbox("patient", first));
    });
    await t.step("a static pod is known by its manifest's hash", async () => {
      const manifest = `${stage.cluster.staticPods}/static.json`;
      Deno.writeTextFileSync(
        manifest,
        JSON.stringify(runnable(injectedPod({ namespace, name: "static" }))),
      );
      const name = `static-${stage.cluster.node}`;
      stage.assertRedirected(await stage.ready(name));
      const { metadata } = await stage.cluster.get(
        `/api/v1/namespaces/${namespace}/pods/${name}`,
      ) as unknown as PodObject;
      assert.notEqual(metadata.uid, metadata.annotations?.["kubernetes.io/config.hash"]);
      Deno.removeSync(manifest);
    });
    await t.step("uninstalling the release leaves the host as it was", async () => {
      await stage.uninstallRelease();
      assert.deepEqual(await stage.hostFiles(), before);
      stage.assertUntouched(await stage.start(injectedPod({ namespace, name: "after-release" })));
      await stage.removePods();
    });

    await t.step("with the right to watch it follows the pods of its node", async () => {
      await stage.install(rights.full);
      await stage.untilLogged(/Pods of this node are followed/);
    });
    await t.step("pods get their rules, or none, and the log says so", () => stage.startBoth());
    await t.step("no pod fails or is missed while the DaemonSet rolls", () => stage.roll());
    await t.step("a pod's sandbox is made anew while the API server is away", async () => {
      const first = await stage.start(injectedPod({ namespace, name: "prompt" }));
      await stage.cluster.killApiServer();
      await stage.cluster.containerd.stopPodSandbox(first.id);
      stage.assertRedirected(await stage.anotherSandbox("prompt", first));
      await stage.cluster.startApiServer();
      stage.assertRedirected(await stage.start(injectedPod({ namespace, name: "later" })));
    });
    await t.step("deleting the DaemonSet alone leaves the host as it was", async () => {
      await stage.cluster.kubectl("-n=kube-system", "delete", "daemonset", "kuma-cni-node");
      await stage.untilInstallerIsGone();
      assert.deepEqual(await stage.hostFiles(), before);
      stage.assertUntouched(await stage.start(injectedPod({ namespace, name: "after-daemon" })));
      await stage.removePods();
    });
  });
}

/** A cluster with the names and files that the tests talk about. */
class Stage implements AsyncDisposable {
  #rolls = 0;

  private constructor(readonly cluster: KubernetesCluster) {}

  static async set(): Promise<Stage> {
    const plugin = await compiledPlugin();
    await compiledInstaller();
    const image = await installerImage(plugin.slice(0, plugin.lastIndexOf("/")));
    const cluster = await KubernetesCluster.start({ images: [image] });
    await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    await cluster.until(
      "the namespace has its account",
      async () => (await cluster.run(`-n=${namespace}`, "get", "sa", "default")).code === 0,
    );
    return new Stage(cluster);
  }

  #installer(delayStartupSeconds: number): object[] {
    const { netDir, binDir } = this.cluster.containerd;
    return installerObjects({ netDir, binDir, confName: conflistName, delayStartupSeconds });
  }

  /** Creates account and DaemonSet and waits until it is ready. */
  async install(rules: typeof rights[keyof typeof rights]): Promise<void> {
    await this.cluster.apply(...accountObjects(rules), ...this.#installer(0));
    await this.#rolledOut();
    await this.cluster.containerd.untilLoaded("bridge", "kuma-cni");
  }

  /** Starts a meshed pod and a plain one, and finds both in the installer's log. */
  async startBoth(): Promise<void> {
    this.assertRedirected(await this.start(injectedPod({ namespace, name: "meshed" })));
    await this.untilLogged(/\tkuma-cni\tPod's traffic is redirected .*"meshed"/);
    this.assertUntouched(await this.start(plainPod({ namespace, name: "plain" })));
    await this.untilLogged(/\tkuma-cni\tPod is skipped.*"plain"/);
    await this.removePods();
  }

  /**
   * Replaces the DaemonSet's pod while pods, every other one meshed, are created one after the other.
   *
   * @param delay Seconds that the new installer waits before it starts, as for a slow image.
   */
  async roll(delay?: number): Promise<void> {
    const round = ++this.#rolls;
    await this.removePods();
    if (delay === undefined) {
      await this.cluster.kubectl("-n=kube-system", "rollout", "restart", "daemonset/kuma-cni-node");
    } else {
      await this.cluster.apply(...this.#installer(delay));
    }
    let rolled = false;
    const rolling = this.#rolledOut().finally(() => rolled = true);
    const pods: PodObject[] = [];
    while (!rolled || pods.length < 10) {
      const name = `rolling-${round}-${pods.length}`;
      const pod = pods.length % 2 === 0
        ? injectedPod({ namespace, name, form: pods.length % 4 === 0 ? "3" : "2.9" })
        : plainPod({ namespace, name });
      await this.cluster.apply(runnable(pod));
      pods.push(pod);
      await pause(POD_INTERVAL_MS);
    }
    await rolling;
    for (const { metadata: { name, annotations } } of pods) {
      const { networkNamespace } = await this.ready(name);
      const meshed = annotations?.["kuma.io/sidecar-injected"] === "true";
      assert.equal(isCaptured(networkNamespace), meshed, `Pod "${name}" in the middle of a roll`);
    }
    assert.deepEqual(await this.failedSandboxes(), []);
    await this.removePods();
  }

  /** What `helm uninstall` does, in its order and without waiting in between. */
  async uninstallRelease(): Promise<void> {
    const inSystem = ["daemonset/kuma-cni-node", "configmap/kuma-cni-config", "sa/kuma-cni"];
    const [daemonSet, ...rest] = inSystem as [string, ...string[]];
    await this.cluster.kubectl("-n=kube-system", "delete", "--wait=false", daemonSet);
    await this.cluster.kubectl(
      "delete",
      "--wait=false",
      "clusterrolebinding/kuma-cni",
      "clusterrole/kuma-cni",
    );
    await this.cluster.kubectl("-n=kube-system", "delete", "--wait=false", ...rest);
    await this.untilInstallerIsGone();
  }

  async untilInstallerIsGone(): Promise<void> {
    await this.cluster.until(
      "the installer's pod is gone",
      async () =>
        (await this.cluster.kubectl("-n=kube-system", "get", "pods", "-o=name")).trim() === "",
    );
  }

  /** Waits until the installer's log, as `kubectl logs` shows it, has such a line. */
  async untilLogged(line: RegExp): Promise<void> {
    let log = "";
    try {
      await this.cluster.until(`the log has ${line}`, async () => {
        log = await this.cluster.kubectl("-n=kube-system", "logs", "daemonset/kuma-cni-node");
        return line.test(log);
      }, 10_000);
    } catch (error) {
      throw new Error(`${(error as Error).message}; it is:\n${log}`);
    }
  }

  /** Creates a pod and waits until it is ready. */
  async start(pod: PodObject): Promise<Sandbox> {
    await this.cluster.apply(runnable(pod));
    return await this.ready(pod.metadata.name);
  }

  /** Waits until a pod is ready. */
  async ready(name: string): Promise<Sandbox> {
    const condition = '{.status.conditions[?(@.type=="Ready")].status}';
    try {
      await this.cluster.until(`pod "${name}" is ready`, async () => {
        const args = [`-n=${namespace}`, "get", "pod", name, `-o=jsonpath=${condition}`];
        return (await this.cluster.run(...args)).stdout === "True";
      }, 60_000);
    } catch (error) {
      const { stdout } = await this.cluster.run(`-n=${namespace}`, "describe", "pod", name);
      throw new Error(`${(error as Error).message}:\n${stdout}`);
    }
    const sandbox = await this.readySandbox(name);
    assert.ok(sandbox !== undefined, `Pod "${name}" has no sandbox`);
    return sandbox;
  }

  async readySandbox(name: string): Promise<Sandbox | undefined> {
    const { containerd } = this.cluster;
    const id = await containerd.readySandboxOf(namespace, name);
    return id === undefined ? undefined : await containerd.sandbox(id);
  }

  /** Waits until kubelet has made another sandbox for a pod. */
  async anotherSandbox(name: string, than: Sandbox): Promise<Sandbox> {
    let found: Sandbox | undefined;
    await this.cluster.until(`pod "${name}" has another sandbox`, async () => {
      found = await this.readySandbox(name);
      return found !== undefined && found.id !== than.id;
    }, 60_000);
    return found!;
  }

  /** What kubelet says about sandboxes that it could not make. */
  async failedSandboxes(): Promise<string[]> {
    const { items } = await this.cluster.get(`/api/v1/namespaces/${namespace}/events`) as {
      items: { reason: string; message: string }[];
    };
    return items.filter(({ reason }) => reason === "FailedCreatePodSandBox")
      .map(({ message }) => message);
  }

  async removePods(): Promise<void> {
    await this.cluster.kubectl(`-n=${namespace}`, "delete", "pods,events", "--all");
  }

  assertRedirected(sandbox: Sandbox): void {
    for (const target of this.#targets(sandbox)) {
      assert.deepEqual(probe(target), redirected(target, "all"));
    }
  }

  assertUntouched(sandbox: Sandbox): void {
    for (const target of this.#targets(sandbox)) {
      assert.deepEqual(probe(target), untouched(target));
    }
  }

  /** Names, modes and contents of the host folders. */
  async hostFiles(): Promise<Record<string, string>> {
    return await contentsOf([this.cluster.containerd.netDir, this.cluster.containerd.binDir]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
  }

  #targets(sandbox: Sandbox): ProbedPod[] {
    return probedPods(sandbox, this.cluster.networkNamespace);
  }

  /** Waits until the DaemonSet's pod is ready, and has never died. */
  async #rolledOut(): Promise<void> {
    await this.cluster.kubectl(
      "-n=kube-system",
      "rollout",
      "status",
      "daemonset/kuma-cni-node",
      "--timeout=90s",
    );
    const { items } = await this.cluster.get("/api/v1/namespaces/kube-system/pods") as {
      items: { status: { containerStatuses: { restartCount: number }[] } }[];
    };
    for (const { status } of items) {
      // With the reference's limit of memory, too.
      for (const { restartCount } of status.containerStatuses) assert.equal(restartCount, 0);
    }
  }
}

/** A pod that this cluster can run: with programs of its one image, and nothing that it lacks. */
function runnable(pod: PodObject): PodObject {
  const { name, labels, annotations } = pod.metadata;
  const containers = (list: PodObject["spec"]["containers"], ...command: string[]) =>
    list.map(({ name, securityContext }) => ({
      name,
      image: IMAGE,
      imagePullPolicy: "IfNotPresent",
      command: ["/bin/busybox", ...command],
      ...(securityContext === undefined ? {} : { securityContext }),
    }));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace,
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: {
      containers: containers(pod.spec.containers, "sleep", "1000000"),
      initContainers: containers(pod.spec.initContainers ?? [], "true"),
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
    },
  };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
