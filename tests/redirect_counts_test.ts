/** What a pod's rules and programs have redirected is counted, by every engine, one by one. */
import "./support/load_libc.ts";
import assert from "node:assert/strict";
import { lookAtSandbox, type LookOptions } from "../installer/ledger/look.ts";
import { EbpfForPod } from "../src/engine/choice/ebpf.ts";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import * as ebpfEngine from "../src/engine/ebpf/ebpf_engine.ts";
import type { Engine } from "../src/engine/engine.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { buildBatch, encodeTables } from "../src/engine/nftables/encode.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { type Layout, planTables } from "../src/engine/nftables/plan.ts";
import { readGeneration } from "../src/engine/nftables/read_back.ts";
import { sumOfRedirects } from "../src/engine/redirect_counts.ts";
import { ENOENT } from "../src/linux/errno.ts";
import { networkNamespaceIdentity } from "../src/linux/namespace_identity.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../src/linux/netlink.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { BACKENDS } from "./support/iptables.ts";
import { makeKubeletCgroup } from "./support/kubelet_cgroup.ts";
import { Laboratory, PEER, POD } from "./support/laboratory.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";
import { listRuleset, nftScript } from "./support/nft.ts";
import { BpfFileSystem, type PodCgroup } from "./support/pod_cgroup.ts";
import { createNamespace } from "./support/topology.ts";

const config: RedirectConfig = {
  ...defaultRedirectConfig,
  dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
  inbound: { ...defaultRedirectConfig.inbound, excludePorts: [9001] },
};

function laboratory(cgroup?: PodCgroup): Laboratory {
  return new Laboratory({
    podTcp: [15001, 15006, 8080, 9001],
    podUdp: [15053],
    peerTcp: [80],
    peerUdp: [53],
    ...(cgroup === undefined ? {} : { cgroup }),
  });
}

/** Makes connections of each kind, besides some that are not redirected, and looks. */
function assertCounted(
  lab: Laboratory,
  engine: Engine,
  more: { readonly podUid?: string; readonly options?: LookOptions } = {},
): void {
  lab.inPod(() => engine.apply(compileRuleset(config, readNamespaceFacts())));
  lab.listenAgain();
  const entry = ledgerEntry({
    config,
    engine: engine.name,
    netns: lab.podNetns,
    namespace: lab.inPod(networkNamespaceIdentity),
    ...(more.podUid === undefined ? {} : { podUid: more.podUid }),
  });
  const look = () => lookAtSandbox(lab.podNetns, entry, { counts: true, ...more.options });
  assert.deepEqual(look(), { kind: "equal", counts: { outbound: 0, inbound: 0, dns: 0 } });
  const send = (
    direction: "outbound" | "inbound",
    protocol: "tcp" | "udp",
    address: string,
    port: number,
    uid = 1000,
  ) => lab.probe({ direction, protocol, to: { address, port }, uid });
  for (const family of ["ipv4", "ipv6"] as const) {
    for (let i = 0; i < 3; i++) {
      assert.equal(send("outbound", "tcp", PEER[family], 80).listenerPort, 15001);
    }
    for (let i = 0; i < 2; i++) {
      assert.equal(send("inbound", "tcp", POD[family], 8080).listenerPort, 15006);
    }
    assert.equal(send("outbound", "udp", PEER[family], 53).place, "pod");
    assert.equal(send("outbound", "tcp", PEER[family], 80, 5678).listenerPort, 80);
    assert.equal(send("inbound", "tcp", POD[family], 9001).listenerPort, 9001);
  }
  assert.deepEqual(look(), { kind: "equal", counts: { outbound: 6, inbound: 4, dns: 2 } });
  lab.inPod(() => engine.remove());
  const { counts, ...gone } = look() as Extract<ReturnType<typeof look>, { kind: "drifted" }>;
  assert.deepEqual([gone.kind, counts], ["drifted", undefined]);
}

for (const layout of ["inet", "per-family"] as const satisfies Layout[]) {
  Deno.test(`nftables, tables ${layout}: each redirected connection is counted once`, () => {
    using lab = laboratory();
    assertCounted(lab, new NftablesEngine(layout));
  });
}

for (const backend of BACKENDS) {
  Deno.test(`iptables, backend ${backend}: each redirected connection is counted once`, () => {
    using lab = laboratory();
    assertCounted(lab, new IptablesEngine({ backend }));
  });
}

for (const inbound of ["sk_lookup", "nftables"] as const) {
  // Engines load libraries when they first need them.
  const options = { sanitizeResources: false };
  Deno.test(
    `ebpf, incoming by ${inbound}: each redirected connection is counted once, and drift seen`,
    options,
    () => {
      using cgroup = makeKubeletCgroup();
      using bpffs = new BpfFileSystem();
      using lab = laboratory(cgroup.pod);
      const engine = new ebpfEngine.EbpfEngine({
        cgroup: cgroup.pod.path,
        pinFolder: ebpfEngine.pinFolderOf(bpffs.path, "sandbox-1"),
        inbound,
      });
      const ebpfOf: LookOptions["ebpfOf"] = ({ sandbox, podUid }) =>
        new EbpfForPod(ebpfEngine, {
          wanted: true,
          because: "the test says so",
          strict: true,
          containerId: sandbox,
          bpffs: bpffs.path,
          cgroupRoot: cgroup.root,
          ...(podUid === undefined ? {} : { podUid }),
        });
      assertCounted(lab, engine, { podUid: cgroup.uid, options: { ebpfOf } });
    },
  );
}

Deno.test("Rules of a version that did not count are no drift, and a counter elsewhere is one", () => {
  for (const layout of ["inet", "per-family"] as const) {
    using namespace = createNamespace();
    const ruleset = namespace.run(() => compileRuleset(config, readNamespaceFacts()));
    namespace.run(() => {
      using socket = new NetlinkSocket(NETLINK_NETFILTER);
      const tables = encodeTables(planTables(ruleset, layout), true, false);
      const batch = buildBatch([], tables, readGeneration(socket), socket.nextSequence());
      assert.deepEqual(socket.batch("Test", batch.data).filter(({ errno }) => errno !== 0), []);
    });
    assert.equal(listRuleset(namespace).includes("counter"), false);
    const without = { ...ruleset, ipv6PassthroughAddress: false };
    assert.deepEqual(namespace.run(() => new NftablesEngine(layout).verify(without)), []);
    const entry = ledgerEntry({
      config,
      netns: namespace.path,
      namespace: namespace.run(networkNamespaceIdentity),
    });
    const look = lookAtSandbox(namespace.path, entry, { counts: true });
    assert.equal("counts" in look, false, "nothing counts, which is not 0");
    const family = layout === "inet" ? "inet" : "ip";
    nftScript(namespace, `insert rule ${family} kuma_mesh KUMA_MESH_OUTBOUND counter`);
    const [difference] = namespace.run(() => new NftablesEngine(layout).verify(without));
    assert.deepEqual([difference?.kind, difference?.actual], ["unexpected", "counter"]);
  }
});

Deno.test("A kernel without counters gets the same rules, which count nothing", () => {
  const { batch } = NetlinkSocket.prototype;
  let refused = 0;
  NetlinkSocket.prototype.batch = function (attempt, data) {
    if (!new TextDecoder("latin1").decode(data).includes("counter\0")) {
      return batch.call(this, attempt, data);
    }
    refused++;
    return [{ sequence: 0, errno: ENOENT, detail: undefined }];
  };
  try {
    using namespace = createNamespace();
    namespace.run(() => {
      const ruleset = compileRuleset(config, readNamespaceFacts());
      new NftablesEngine().apply(ruleset);
      assert.deepEqual(new NftablesEngine().verify(ruleset), []);
    });
    const listing = listRuleset(namespace);
    assert.match(listing, /table inet kuma_mesh [^]*redirect to :15001/);
    assert.equal(listing.includes("counter"), false);
    assert.equal(refused, 2, "once for each layout");
  } finally {
    NetlinkSocket.prototype.batch = batch;
  }
});

Deno.test("A redirection to no port of the sidecar counts for nothing", () => {
  const redirects = [[15001, 2], [15006, 3], [15010, 4], [15053, 5], [1, 6]] as const;
  assert.deepEqual(
    sumOfRedirects(redirects.map(([port, connections]) => ({ port, connections })), {
      ...{ outbound: 15001, inbound: [15006, 15010], dns: 15053 },
    }),
    { outbound: 2, inbound: 7, dns: 5 },
  );
});
