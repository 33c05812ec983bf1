/** `install-cni pods`: what is known of each pod, and nothing that is not. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { ageText, isWrong, podsText, podText } from "../installer/commands/pods_text.ts";
import { styleOf } from "../installer/commands/terminal.ts";
import type { Look } from "../installer/ledger/look.ts";
import type { NodePod, PodLife } from "../installer/ledger/pod_life.ts";
import { digestOf, podRows, type RowFacts } from "../installer/ledger/pod_rows.ts";
import type { LedgerEntry } from "../src/ledger/entry.ts";
import { putEntry } from "../src/ledger/folder.ts";
import { decideForPod } from "../src/pod/decide.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { ApiServer } from "./support/api_server.ts";
import { InstallerHost } from "./support/installer_host.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";

function pod(name: string, isMeshed: boolean, life: Partial<PodLife> = {}): NodePod {
  return {
    pod: {
      namespace: "demo",
      name,
      uid: `uid-${name}`,
      annotations: isMeshed ? { "kuma.io/sidecar-injected": "true" } : {},
      containerNames: isMeshed ? ["kuma-sidecar", "app"] : ["app"],
      initContainerNames: [],
    },
    life: {
      hostNetwork: false,
      isAlive: true,
      ips: ["10.0.0.1"],
      containerIds: [],
      hasStarted: true,
      isServing: true,
      created: 1_764_000_000_000,
      ...life,
    },
  };
}

function entryOf({ pod }: NodePod, more: Parameters<typeof ledgerEntry>[0] = {}): LedgerEntry {
  return ledgerEntry({ sandbox: `s-${pod.name}`, podName: pod.name, podUid: pod.uid, ...more });
}

const hour = 1_764_000_000_000 + 3_600_000;

function rows(facts: Partial<RowFacts>) {
  return podRows({
    pods: [],
    entries: [],
    decide: ({ pod }) => decideForPod(pod, { allowPodSettings: new Set(), resolvers: [] }),
    look: (): Look => ({ kind: "equal" }),
    now: hour,
    ...facts,
  });
}

const one = (facts: Partial<RowFacts>) => {
  const [row, ...others] = rows(facts);
  equal(others.length, 0);
  return row!;
};

Deno.test("Each pod is meshed, not meshed, starting, or unknown, with the reason", () => {
  const meshed = pod("a", true);
  const known = one({ pods: [meshed], entries: [entryOf(meshed)] });
  deepEqual([known.meshed, known.engine, known.rules, known.ageSeconds], [
    "yes",
    "nftables",
    "as installed",
    3600,
  ]);
  const plain = one({ pods: [pod("b", false)] });
  deepEqual([plain.meshed, plain.rules], ["no", undefined]);
  match(plain.why, /kuma-sidecar/);
  const host = one({ pods: [pod("c", true, { hostNetwork: true })] });
  deepEqual([host.meshed, host.why], ["no", "it has the node's network"]);
  equal(one({ pods: [pod("d", true, { hasStarted: false })] }).meshed, "starting");
  // A lost report, or a pod that came too early: nobody knows yet, which is not "no".
  const lost = one({ pods: [meshed] });
  equal(lost.meshed, "unknown");
  match(lost.why, /the ledger has nothing about it/);
  const skipped: LedgerEntry = {
    ...entryOf(meshed),
    outcome: { result: "skipped", reason: "not-injected" },
  };
  const was = one({ pods: [meshed], entries: [skipped] });
  deepEqual([was.meshed, was.why], ["no", "it was skipped when it started (not-injected)"]);
});

Deno.test("Of several sandboxes of a pod the last counts, and a pod of that name before is another", () => {
  const now = pod("a", true);
  const earlier = { ...entryOf(now, { sandbox: "old", engine: "iptables" }), time: 1 };
  equal(one({ pods: [now], entries: [earlier, entryOf(now)] }).engine, "nftables");
  const before = entryOf(now, { podUid: "another" });
  const both = rows({ pods: [now], entries: [before] });
  deepEqual(both.map(({ meshed }) => meshed).sort(), ["unknown", "yes"]);
});

Deno.test("What cannot be seen is said, and is not a drift", () => {
  const meshed = pod("a", true);
  const entries = [entryOf(meshed)];
  const unseen = one({
    pods: [meshed],
    entries,
    look: () => ({ kind: "unseen", reason: "EPERM (no)" }),
  });
  deepEqual([unseen.rules, unseen.detail, isWrong(unseen)], ["not seen", "EPERM (no)", false]);
  const differences = [{ kind: "missing", object: "table inet kuma_mesh" } as const];
  const drifted = one({ pods: [meshed], entries, look: () => ({ kind: "drifted", differences }) });
  deepEqual([drifted.rules, isWrong(drifted)], ["drifted", true]);
  const config = { ...defaultRedirectConfig, sidecarUid: 1 };
  const outdated = one({ pods: [meshed], entries: [entryOf(meshed, { config })] });
  deepEqual([outdated.isOutdated, isWrong(outdated)], [true, false]);
  const decision = decideForPod(meshed.pod, { allowPodSettings: new Set(), resolvers: [] });
  ok(decision.kind === "redirect");
  const servers = [{ family: "ipv4", address: "10.96.0.10" }] as const;
  const asked = { ...decision.config, dns: { ...decision.config.dns, servers } };
  equal(
    one({ pods: [meshed], entries: [entryOf(meshed, { config: asked })] }).isOutdated,
    undefined,
    "only the runtime knows the resolvers",
  );
});

Deno.test("A configuration has one name, whatever the order of its keys", () => {
  const turned = Object.fromEntries(Object.entries(defaultRedirectConfig).reverse());
  equal(digestOf(turned as never), digestOf(defaultRedirectConfig));
  ok(digestOf({ ...defaultRedirectConfig, sidecarUid: 1 }) !== digestOf(defaultRedirectConfig));
});

Deno.test("The table has a row for each pod, and a line for each that needs a look", () => {
  const meshed = pod("a", true);
  const text = podsText(
    rows({
      pods: [meshed, pod("bb", false), pod("c", true)],
      entries: [entryOf(meshed)],
      look: () => ({ kind: "equal", counts: { outbound: 12, inbound: 3, dns: 0 } }),
    }),
    false,
    styleOf(false),
  );
  const lines = text.split("\n");
  equal(lines[0], "POD      MESHED   ENGINE    RULES         REDIRECTED           AGE");
  equal(lines[1], "demo/a   yes      nftables  as installed  out 12, in 3, dns 0  60m");
  equal(lines[2], "demo/bb  no       -         -             -                    60m");
  equal(lines[3], "demo/c   unknown  -         -             -                    60m");
  match(lines[5]!, /^demo\/a: its annotations or this node/);
  match(lines[6]!, /^demo\/c: it should be meshed/);
  match(podText(one({ pods: [meshed], entries: [entryOf(meshed)] })), /^Pod demo\/a\n {2}meshed /);
  deepEqual([1, 119, 7000, 100_000, 900_000].map(ageText), ["1s", "119s", "116m", "27h", "10d"]);
});

Deno.test("Without the API the ledger's pods are shown, for people and for programs", async () => {
  await using host = new InstallerHost();
  const folder = `${host.netDir}/kuma-cni.d`;
  await Deno.mkdir(folder, { mode: 0o700 });
  putEntry(folder, ledgerEntry({ netns: "/run/netns/no-such-namespace-of-kuma" }));
  const text = await host.run(["pods"]);
  match(text.stderr, /^Warning: Pods of this node are not listed, only what the ledger has: /);
  match(text.stdout, /^demo\/app-0 +yes +nftables +(not seen|gone) /m);
  const json = await host.run(["pods", "app-0", "-o", "json"]);
  const [row] = JSON.parse(json.stdout).pods;
  deepEqual([row.namespace, row.name, row.sandbox], ["demo", "app-0", "sandbox-1"]);
  equal(json.code, 0);
  const missing = await host.run(["pods", "nobody"]);
  match(missing.stderr, /install-cni: Cannot find pod "nobody" among the 1 of this node/);
});

Deno.test("pods does not wait long for an API server that hangs, and shows the ledger", async () => {
  await using host = new InstallerHost();
  await using api = await ApiServer.start({ objects: [] });
  host.writeSecret("token", api.token);
  host.writeSecret("ca.crt", api.certificateAuthority);
  Deno.mkdirSync(`${host.netDir}/kuma-cni.d`, { mode: 0o700 });
  putEntry(`${host.netDir}/kuma-cni.d`, ledgerEntry({ podName: "web-0" }));
  api.inject({ kind: "hang" });
  const started = performance.now();
  const { stdout, stderr } = await host.run(["pods"], {
    KUBERNETES_SERVICE_PORT: `${api.port}`,
    NODE_NAME: "node-x",
  });
  match(stderr, /Pods of this node are not listed, only what the ledger has/);
  match(stdout, /web-0/, stderr);
  const taken = performance.now() - started;
  // 3 s, and the start of the program on a busy machine.
  ok(taken > 2900 && taken < 8000, `took ${taken} ms`);
});
