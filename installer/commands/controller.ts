/** `install-cni controller`: keeps pods off nodes where the plugin is not installed. */
import type { Command } from "@commander-js/extra-typings";
import { takeLease } from "../../src/kubernetes/lease.ts";
import { sleep } from "../../src/kubernetes/sleep.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { serveHealth } from "../agent/health.ts";
import { ClusterConnection } from "../cluster/cluster_connection.ts";
import { ownPod } from "../cluster/own_pod.ts";
import { Controller } from "../controller/controller.ts";
import { removeTaints } from "../controller/remove_taints.ts";
import {
  controllerDeclarations,
  type ControllerSettings,
  sharedDeclarations,
} from "../settings/controller_declarations.ts";
import type { Settings } from "../settings/declarations.ts";
import { clusterClient } from "./cluster_access.ts";
import { addFlags, controllerSettingsOf, loggerOf, settingsOf } from "./command_settings.ts";

/** For so long nobody taints nodes anew, time enough to uninstall, in milliseconds. */
const standDown = 10 * 60_000;

/** After so long without its Lease a leader has stopped, in milliseconds. */
const longestRenewal = 11_000;

const examples = `
Runs in a Deployment of two replicas, which "install-cni manifests --set cni.controller.enabled=true"
prints; docs/controller.md says what it does.

Examples:
  install-cni controller --remove-taints    takes the taint from all nodes of your cluster, and ends
`;

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("controller")
    .description("Keep pods off nodes where the plugin is not installed; one for the cluster")
    .option("--remove-taints", "take the taint from all nodes and end; uses KUBECONFIG")
    .addHelpText("after", examples);
  addFlags(command as unknown as Command, [
    ...Object.values(controllerDeclarations),
    ...sharedDeclarations,
  ]);
  command.action(async ({ removeTaints }, command) => {
    const plain = command as unknown as Command;
    if (removeTaints) await takeTaintsAway(plain);
    else await control(controllerSettingsOf(plain), settingsOf(plain, { needsConfig: false }));
  });
}

async function control(controls: ControllerSettings, settings: Settings): Promise<void> {
  const log = loggerOf(settings);
  const pod = ownPod(settings);
  if (pod === undefined || settings.apiHost === "" || settings.apiPort === "") {
    console.error(
      "install-cni: Not in a cluster: POD_NAMESPACE, KUBERNETES_SERVICE_HOST or " +
        "KUBERNETES_SERVICE_PORT is empty; kubelet sets them in a pod",
    );
    Deno.exit(1);
  }
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const) {
    Deno.addSignalListener(signal, () => stop.abort());
  }
  using connection = new ClusterConnection(settings);
  const controller = new Controller(controls, {
    client: () => connection.client(),
    log,
    election: {
      namespace: pod.namespace,
      name: controls.leaseName,
      // A container that was started anew is another process under the same name.
      identity: `${pod.name}_${crypto.randomUUID()}`,
    },
    signal: stop.signal,
  });
  const { healthAddress: hostname, healthPort: port } = settings;
  const http = port === 0 ? undefined : serveHealth({ hostname, port }, {
    readiness: () => controller.readiness,
    liveness: () => ({ alive: true, reason: "alive" }),
    metrics: () => controller.metrics.registry.expose(),
  });
  await controller.run();
  await http?.shutdown();
  Deno.exit(0);
}

/** Before or after an uninstallation, by hand or in a job. */
async function takeTaintsAway(command: Command): Promise<void> {
  const settings = controllerSettingsOf(command, { needsApp: false });
  try {
    using client = clusterClient();
    const { signal } = new AbortController();
    const lease = { namespace: settings.cniNamespace, name: settings.leaseName, signal };
    const identity = `remove-taints_${crypto.randomUUID()}`;
    if (await takeLease(client, { ...lease, identity }, standDown)) {
      console.error(
        `The controller is held off for ${standDown / 60_000} minutes: uninstall it, or set ` +
          `${controllerDeclarations.taintEnabled.variable}=false`,
      );
      await sleep(longestRenewal, signal);
    }
    const nodes = await removeTaints(client, {
      taint: { key: settings.taintKey, effect: settings.taintEffect },
      which: "all",
      signal,
      change: (change, what) => client.change(change, { what }),
    });
    console.log(
      nodes.length === 0
        ? `No node has the taint ${settings.taintKey}:${settings.taintEffect}`
        : `Taken from: ${nodes.join(", ")}`,
    );
  } catch (error) {
    console.error(`install-cni: ${messageOf(error)}`);
    Deno.exit(1);
  }
}
