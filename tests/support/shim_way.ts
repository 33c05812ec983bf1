/** A pod's ADD by the plugin, or by a shim whose agent is played: what a runtime does, and its end. */
import { strict as assert } from "node:assert";
import { listAddresses } from "../../src/linux/addresses.ts";
import { withPaths } from "../../src/shim/places.ts";
import type { AgentFault } from "./agent_faults.ts";
import { startPlayedAgent } from "./agent_way.ts";
import { ApiServer } from "./api_server.ts";
import { compiledPlugin } from "./compiled.ts";
import { listRuleset } from "./nft.ts";
import type { PodObject } from "./pods.ts";
import { callPlugin, newContainerId, type PluginAnswer } from "./runtime.ts";
import { compiledShim } from "./shim.ts";
import { createNamespace, type NamedNamespace } from "./topology.ts";

const prevResult = { cniVersion: "0.4.0", ips: [] };

/** A shim with an agent of its own. */
export interface AgentWay {
  readonly shim: string;
  readonly agent: Deno.ChildProcess;
}

/** Choices for a call. */
export interface CallChoices {
  readonly command?: "ADD" | "CHECK";
  readonly engine?: string;
}

/** Plugin, shims and agents of a test; ends its agents when it is disposed of. */
export class ShimWay implements AsyncDisposable {
  readonly #agents: Deno.ChildProcess[] = [];

  private constructor(
    readonly plugin: string,
    readonly folder: string,
    private readonly api: ApiServer,
  ) {}

  /** @param pods Those that the API server knows. */
  static async start(pods: readonly PodObject[]): Promise<ShimWay> {
    const folder = Deno.makeTempDirSync({ prefix: "kuma-way-" });
    Deno.chmodSync(folder, 0o700);
    const api = await ApiServer.start({ objects: pods });
    await api.writeKubeconfig(`${folder}/kubeconfig`);
    return new ShimWay(await compiledPlugin(), folder, api);
  }

  /** Starts an agent, and makes a shim that asks it and else starts a program, the plugin unless told. */
  async withAgent(
    { fault, program = this.plugin }: { readonly fault?: AgentFault; readonly program?: string },
  ): Promise<AgentWay> {
    const name = crypto.randomUUID().slice(0, 8);
    const [socket, shim] = [`${this.folder}/${name}.sock`, `${this.folder}/${name}.shim`];
    const paths = { socket, program };
    Deno.writeFileSync(shim, withPaths(await compiledShim(), paths), { mode: 0o755 });
    const agent = await startPlayedAgent(socket, fault);
    this.#agents.push(agent);
    return { shim, agent };
  }

  /** Calls a program for a pod as a runtime does. */
  call(
    program: string,
    { metadata: { namespace, name, uid } }: PodObject,
    netns: NamedNamespace,
    { command = "ADD", engine = "auto" }: CallChoices = {},
  ): Promise<PluginAnswer> {
    return callPlugin(program, {
      command,
      containerId: newContainerId(),
      netns: netns.path,
      pod: { namespace: namespace!, name, uid: uid! },
      network: {
        cniVersion: "0.4.0",
        name: "bed",
        type: "kuma-cni",
        engine,
        kubernetes: {
          kubeconfig: `${this.folder}/kubeconfig`,
          exclude_namespaces: ["kube-system"],
        },
      },
      prevResult,
    });
  }

  /** As {@linkcode call} for ADD, and the answer must be that of a success. */
  async add(
    program: string,
    pod: PodObject,
    netns: NamedNamespace,
    { what = "", ...choices }: { readonly what?: string; readonly engine?: string } = {},
  ): Promise<void> {
    const { code, stdout, stderr } = await this.call(program, pod, netns, choices);
    assert.equal(code, 0, `${what}: ${stdout} ${stderr}`);
    assert.deepEqual(JSON.parse(stdout), prevResult, what);
  }

  /** What the plugin leaves in a new namespace without an agent. */
  async stateWithoutAgent(pod: PodObject): Promise<string> {
    using netns = createNamespace();
    await this.add(this.plugin, pod, netns);
    return stateOf(netns);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) await endAgent(agent);
    await this.api.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Ends an agent, also one that is stopped, unless it has ended by itself; tells how it ended. */
export async function endAgent(agent: Deno.ChildProcess): Promise<Deno.CommandStatus> {
  try {
    agent.kill("SIGTERM");
    agent.kill("SIGCONT");
  } catch { /* It is gone. */ }
  return await agent.status;
}

/** All that an ADD leaves in a namespace. */
export function stateOf(netns: NamedNamespace): string {
  return JSON.stringify([listRuleset(netns), netns.run(() => listAddresses())]);
}
