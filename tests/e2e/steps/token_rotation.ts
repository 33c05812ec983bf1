/**
 * Tokens that are good for ten minutes, the least that Kubernetes gives: kubelet renews the agent's
 * under its feet, the host gets the new one, and the plugin's calls go on with it.
 */
import { equal, match, ok } from "node:assert/strict";
import { Agent } from "../support/agent.ts";
import { fact, seconds } from "../support/facts.ts";
import { type HostToken, hostToken } from "../support/host_token.ts";
import { pause } from "../support/machine.ts";
import { Sandboxes } from "../support/sandboxes.ts";
import { demo, isRefused, type Stage } from "../support/stage.ts";

const lifetime = 600;
const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";
/** The API server goes on believing in an expired token for its leeway, and one that it has just seen. */
const leeway = 60_000 + 10_000;

/** Has the agents' tokens live for ten minutes, as an administrator may. */
export async function shortenTokens({ cluster }: Stage): Promise<void> {
  const name = "short-token";
  const file = (path: string) => ({ path, key: path });
  const sources = [
    { serviceAccountToken: { path: "token", expirationSeconds: lifetime } },
    { configMap: { name: "kube-root-ca.crt", items: [file("ca.crt")] } },
    {
      downwardAPI: {
        items: [{ path: "namespace", fieldRef: { fieldPath: "metadata.namespace" } }],
      },
    },
  ];
  const spec = {
    containers: [{
      name: "install-cni",
      volumeMounts: [{ name, mountPath: accountFolder, readOnly: true }],
    }],
    volumes: [{ name, projected: { sources } }],
  };
  await cluster.kubectl(
    ...["-n=kube-system", "patch", "daemonset", "kuma-cni-node"],
    `--patch=${JSON.stringify({ spec: { template: { spec } } })}`,
  );
}

/** Adds the steps that see a token through to its end. */
export class TokenRotation {
  #old!: HostToken;

  constructor(private readonly stage: Stage) {}

  /** Begins with the token that is on the host now; its agent and its kubelet must stay from here on. */
  async begin(t: Deno.TestContext): Promise<void> {
    await t.step("the host has a token that is good for ten minutes", async () => {
      this.#old = await hostToken(this.#machine);
      equal(this.#old.expires - this.#old.issued, lifetime * 1000);
    });
  }

  async end(t: Deno.TestContext): Promise<void> {
    const { stage } = this;
    const { cluster } = stage;
    const old = this.#old;
    let fresh = old;
    await t.step("kubelet renews it, and the host has the new one at once", async () => {
      const patience = old.issued + lifetime * 1000 - Date.now();
      await cluster.until("kubelet has another token for the agent's pod", async () => {
        return await this.#keptByKubelet() !== old.text;
      }, patience);
      const begin = performance.now();
      const kept = await this.#keptByKubelet();
      await cluster.until("the host has it", async () => {
        fresh = await hostToken(this.#machine);
        return fresh.text === kept;
      }, 10_000);
      equal(fresh.pod, old.pod, "It must be a renewed one, not that of another agent's pod");
      ok(fresh.expires > old.expires);
      fact(
        `token of ${lifetime} s: renewed by kubelet at the age of ` +
          `${seconds(fresh.issued - old.issued)}, on the host ` +
          `${seconds(performance.now() - begin)} later`,
      );
      match((await stage.askWith(old.text)).stdout, /pod\/client/, "It is not over yet");
      match((await stage.askWith(fresh.text)).stdout, /pod\/client/);
    });
    await t.step(
      "when the old one is refused, pods start captured, without the agent, too",
      async () => {
        await pause(Math.max(0, old.expires - Date.now()));
        await cluster.until("the expired token is refused", async () => {
          return isRefused(await stage.askWith(old.text));
        }, leeway + 20_000);
        fact(`it is refused ${seconds(Date.now() - old.expires)} after its end`);
        equal((await hostToken(this.#machine)).pod, old.pod, "The agent's pod must be the same");
        await this.#assertCaptured("with-agent");
        // With the agent held up the plugin has nothing but what is on the host.
        using sandboxes = new Sandboxes(this.#machine);
        const agent = new Agent(this.#machine, sandboxes);
        await agent.signal("STOP");
        try {
          await this.#assertCaptured("without-agent");
        } finally {
          await agent.signal("CONT");
        }
      },
    );
  }

  get #machine() {
    return this.stage.cluster.first;
  }

  async #assertCaptured(name: string): Promise<void> {
    await this.stage.start({ name }, { light: true });
    equal(await this.stage.isCaptured(name), true);
    await this.stage.cluster.kubectl("-n", demo, "delete", "pod", name);
  }

  /** The token in the volume of the agent's pod. */
  async #keptByKubelet(): Promise<string> {
    const volumes = `${this.#machine.folder}/kubelet/pods/${this.#old.pod}/volumes`;
    const path = `${volumes}/kubernetes.io~projected/short-token/token`;
    return (await Deno.readTextFile(this.#machine.path(path))).trim();
  }
}
