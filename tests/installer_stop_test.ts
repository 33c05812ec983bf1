/** What a stopping install-cni makes of what the API server says about its own DaemonSet. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { ApiServer, type Fault, type FaultScope } from "./support/api_server.ts";
import { exists } from "./support/files.ts";
import { InstallerHost, primaryList, type RunningInstaller } from "./support/installer_host.ts";

const list = "10-calico.conflist";
const podPath = "/api/v1/namespaces/kube-system/pods/kuma-cni-node-x";
const daemonSetPath = "/apis/apps/v1/namespaces/kube-system/daemonsets/kuma-cni-node";

const json = (value: unknown): Fault => ({
  kind: "body",
  contentType: "application/json",
  body: JSON.stringify(value),
});
const pod = json({
  kind: "Pod",
  apiVersion: "v1",
  metadata: {
    name: "kuma-cni-node-x",
    namespace: "kube-system",
    uid: "p",
    ownerReferences: [
      { apiVersion: "apps/v1", kind: "DaemonSet", name: "kuma-cni-node", uid: "d" },
    ],
  },
  spec: { nodeName: "node-1", containers: [{ name: "install-cni" }] },
});
const daemonSet = (metadata: Record<string, unknown>) =>
  json({
    kind: "DaemonSet",
    apiVersion: "apps/v1",
    metadata: { name: "kuma-cni-node", namespace: "kube-system", uid: "d", ...metadata },
  });
const status = (code: number): Fault => ({ kind: "status", code });
const at = (path: string): FaultScope => ({ path });

interface Case {
  readonly name: string;
  readonly extra?: Record<string, string>;
  /** Answers while the agent runs, and those from just before its end. */
  readonly running: [Fault, FaultScope][];
  readonly ending?: [Fault, FaultScope][];
  readonly uninstalls: boolean;
  readonly says: RegExp;
}

const cases: readonly Case[] = [
  {
    name: "its DaemonSet is there (a rolling update, an eviction, a node's restart)",
    running: [[pod, at(podPath)], [daemonSet({}), at(daemonSetPath)]],
    uninstalls: false,
    says: /stays installed.*the DaemonSet \\"kube-system\/kuma-cni-node\\" is there/,
  },
  {
    name: "its DaemonSet is being deleted",
    running: [[pod, at(podPath)], [
      daemonSet({ deletionTimestamp: "2026-01-01T00:00:00Z" }),
      at(daemonSetPath),
    ]],
    uninstalls: true,
    says: /Uninstalling.*is being deleted/,
  },
  {
    name: "its DaemonSet is gone",
    running: [[pod, at(podPath)], [status(404), at(daemonSetPath)]],
    uninstalls: true,
    says: /Uninstalling.*is gone/,
  },
  {
    name: "it may not read DaemonSets, as under the reference manifest",
    running: [[pod, at(podPath)], [status(403), at(daemonSetPath)]],
    uninstalls: false,
    says: /stays installed/,
  },
  {
    name: "it never could read anything",
    running: [[status(403), {}]],
    uninstalls: false,
    says: /stays installed/,
  },
  {
    name: "its account lost the right to read its own pod, as by a mistake",
    running: [[pod, at(podPath)]],
    ending: [[status(403), {}]],
    uninstalls: false,
    says: /stays installed.*403/,
  },
  {
    name: "its account is refused, as by a mistake",
    running: [[pod, at(podPath)]],
    ending: [[status(401), {}]],
    uninstalls: false,
    says: /stays installed.*401/,
  },
  {
    name: "its account lost the right to read its own pod, and that is set to count",
    extra: { KUMA_CNI_UNINSTALL_WHEN_REFUSED: "true" },
    running: [[pod, at(podPath)]],
    ending: [[status(403), {}]],
    uninstalls: true,
    says: /Uninstalling.*was removed, or its rights were/,
  },
  {
    name: "its account is gone, and that is set to count",
    extra: { KUMA_CNI_UNINSTALL_WHEN_REFUSED: "true" },
    running: [[pod, at(podPath)]],
    ending: [[status(401), {}]],
    uninstalls: true,
    says: /Uninstalling.*was removed, or its rights were/,
  },
  {
    name: "the API server is broken",
    running: [[pod, at(podPath)]],
    ending: [[status(500), {}]],
    uninstalls: false,
    says: /stays installed.*answered 500/,
  },
  {
    name: "the API server does not answer",
    running: [[pod, at(podPath)]],
    ending: [[{ kind: "hang" }, {}]],
    uninstalls: false,
    says: /stays installed/,
  },
];

for (const { name, extra, running, ending, uninstalls, says } of cases) {
  Deno.test(`${uninstalls ? "uninstalls" : "leaves the plugin"} when ${name}`, async () => {
    await using server = await ApiServer.start();
    await using host = new InstallerHost();
    host.writeSecret("ca.crt", server.certificateAuthority);
    host.writeSecret("token", server.token);
    host.writeConf(list, primaryList);
    const before = host.snapshot();
    for (const [fault, scope] of running) server.inject(fault, scope);
    const agent = host.start({ KUBERNETES_SERVICE_PORT: String(server.port), ...extra });
    await agent.until("ready", () => host.isReady);
    await agent.until(
      "asked for its own pod",
      () => server.requests.filter(({ target }) => target === podPath).length > 0,
    );
    await settled(agent, server);
    if (ending !== undefined) {
      server.clearFaults();
      for (const [fault, scope] of ending) server.inject(fault, scope);
    }
    const begin = performance.now();
    equal(await agent.terminate(), 0);
    const seconds = (performance.now() - begin) / 1000;
    ok(seconds < 4.5, `${seconds} s, and the grace period of the reference manifest is 5 s`);
    match(agent.stderr, says);
    if (uninstalls) deepEqual(host.snapshot(), before);
    else {
      ok(host.typesIn(list).includes("kuma-cni"));
      ok(exists(`${host.binDir}/kuma-cni`));
    }
  });
}

/** Waits until the agent has the answers to what it asked at its start. */
async function settled(agent: RunningInstaller, server: ApiServer): Promise<void> {
  let last = -1;
  let since = performance.now();
  await agent.until("asked no more", () => {
    if (server.requests.length !== last) {
      last = server.requests.length;
      since = performance.now();
    }
    return performance.now() - since > 150;
  });
}
