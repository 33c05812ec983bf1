/** A running pod of the engine `ebpf` without any process: cgroup, network namespace, pins, entry. */
import type { LookOptions } from "../../installer/ledger/look.ts";
import { EbpfForPod } from "../../src/engine/choice/ebpf.ts";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import * as engine from "../../src/engine/ebpf/ebpf_engine.ts";
import {
  type InstalledPrograms,
  mapIdsOf,
  readInstalled,
} from "../../src/engine/ebpf/installed.ts";
import type { InboundWay } from "../../src/engine/ebpf/interface.ts";
import { MapName } from "../../src/engine/ebpf/layout.ts";
import { OpenMaps } from "../../src/engine/ebpf/maps.ts";
import { linkPin } from "../../src/engine/ebpf/pins.ts";
import { LOOKUP_HOOK } from "../../src/engine/ebpf/programs.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import { addAddress, getLink, listAddresses } from "../../src/linux/addresses.ts";
import { lookAtCgroups } from "../../src/linux/cgroup_view.ts";
import type { CgroupView } from "../../src/linux/pod_cgroup.ts";
import { bpfMapKeys, lookUpBpfMap } from "../../src/linux/bpf_maps.ts";
import { openForReading } from "../../src/linux/libc.ts";
import { networkNamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import { makeKubeletCgroup } from "./kubelet_cgroup.ts";
import { ledgerEntry } from "./ledger_entries.ts";
import { listRuleset } from "./nft.ts";
import { BpfFileSystem } from "./pod_cgroup.ts";
import { createNamespace, type NamedNamespace } from "./topology.ts";

const configured: RedirectConfig = {
  ...defaultRedirectConfig,
  dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
};

/** Dispose of it to remove all that it was. */
export class ProgrammedPod implements Disposable {
  readonly #stack = new DisposableStack();
  readonly bpffs: BpfFileSystem;
  readonly kubelet = this.#stack.use(makeKubeletCgroup());
  readonly sandbox = `sandbox-${crypto.randomUUID()}`;
  readonly pinFolder: string;
  readonly namespace: NamedNamespace;

  /** @param bpffs The host's BPF file system; the pod's own one unless told. */
  constructor(
    readonly way: InboundWay,
    readonly config: RedirectConfig = configured,
    bpffs?: BpfFileSystem,
  ) {
    this.bpffs = bpffs ?? this.#stack.use(new BpfFileSystem());
    this.view = lookAtCgroups();
    this.pinFolder = engine.pinFolderOf(this.bpffs.path, this.sandbox);
    this.namespace = this.sandboxNamespace();
  }

  /** Another network namespace, such as a new sandbox of the pod has. */
  sandboxNamespace(): NamedNamespace {
    const namespace = this.#stack.use(createNamespace());
    namespace.run(() => {
      for (const [address, bits] of [["10.90.0.7", 32], ["fd90::7", 128]] as const) {
        addAddress(getLink("lo").index, address, bits);
      }
    });
    return namespace;
  }

  /** Does what the plugin's ADD does. */
  capture(namespace: NamedNamespace = this.namespace, config: RedirectConfig = this.config): void {
    const { way: inbound, pinFolder } = this;
    const options = { cgroup: this.kubelet.pod.path, inbound };
    namespace.run(() =>
      // Without a folder of pins the engine itself would choose the same way.
      new engine.EbpfEngine(inbound === "nftables" ? options : { ...options, pinFolder })
        .apply(compileRuleset(config, readNamespaceFacts()))
    );
  }

  /** The ledger's entry of a sandbox. */
  entry(namespace: NamedNamespace = this.namespace): LedgerEntry {
    return ledgerEntry({
      sandbox: this.sandbox,
      config: this.config,
      engine: "ebpf",
      podUid: this.kubelet.uid,
      netns: namespace.path,
      namespace: namespace.run(networkNamespaceIdentity),
    });
  }

  /** What the agent remembers of the machine. */
  view: CgroupView;

  /** What the agent looks with; where incoming connections are nftables' part, nothing is pinned. */
  readonly ebpfOf: NonNullable<LookOptions["ebpfOf"]> = ({ sandbox, podUid }, wanted = true) =>
    new EbpfForPod(engine, {
      wanted,
      because: "the test says so",
      strict: true,
      containerId: sandbox,
      bpffs: this.way === "nftables" ? "/nowhere" : this.bpffs.path,
      cgroupRoot: this.kubelet.root,
      ...(podUid === undefined ? {} : { podUid }),
    }, this.view);

  /** Does something with the programs of the pod that are attached now. */
  withPrograms<T>(work: (installed: InstalledPrograms) => T, namespace = this.namespace): T {
    return namespace.run(() => {
      using cgroup = openForReading(this.kubelet.pod.path);
      using own = openForReading("/proc/thread-self/ns/net");
      using installed = readInstalled(cgroup, own);
      return work(installed);
    });
  }

  /**
   * Everything that a fresh apply makes, in a form that two applies share: programs by their places,
   * addresses in the map, whether all share their maps, the pin, rules, and the namespace's addresses.
   */
  listing(namespace = this.namespace): string {
    const lines = this.withPrograms((installed) => {
      const programs = installed.all.map(({ hook, info }) => `${hook.name} ${info.tag}`);
      const ids = mapIdsOf(installed.all.filter(({ hook }) => hook !== LOOKUP_HOOK));
      using maps = OpenMaps.open(ids);
      const addresses = maps.get(MapName.addresses);
      const entries = addresses === undefined
        ? []
        : bpfMapKeys(addresses, 16).map((key) =>
          `${key.toHex()} ${lookUpBpfMap(addresses, key, 16)?.toHex()}`
        );
      const isShared = installed.all.every(({ info }) => info.mapIds.every((id) => ids.has(id)));
      return [
        ...programs,
        ...entries.sort(),
        `shared ${isShared && maps.several.length === 0}`,
        ...listAddresses().map((one) => JSON.stringify(one)),
      ];
    }, namespace);
    return [...lines, `pinned ${this.isPinned}`, listRuleset(namespace)].join("\n");
  }

  get isPinned(): boolean {
    try {
      return Deno.lstatSync(linkPin(this.pinFolder)) !== undefined;
    } catch {
      return false;
    }
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
