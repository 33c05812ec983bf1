/** Changes of a pod's programs such as other software, or a person with bpftool, makes. */
import { load } from "../../src/engine/ebpf/attach.ts";
import { findNamespaceLink, mapIdsOf } from "../../src/engine/ebpf/installed.ts";
import { MapName, SpecialKey } from "../../src/engine/ebpf/layout.ts";
import { OpenMaps } from "../../src/engine/ebpf/maps.ts";
import { unpin } from "../../src/engine/ebpf/pins.ts";
import { LOOKUP_HOOK, planPrograms } from "../../src/engine/ebpf/programs.ts";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { PASSTHROUGH_ADDRESS } from "../../src/engine/passthrough_address.ts";
import { getLink, removeAddress } from "../../src/linux/addresses.ts";
import { attachToCgroup, detachFromCgroup, detachLink, updateLink } from "../../src/linux/bpf.ts";
import { bpfMapKeys, removeFromBpfMap, updateBpfMap } from "../../src/linux/bpf_maps.ts";
import { openForReading } from "../../src/linux/libc.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { Dice } from "./damage.ts";
import type { ProgrammedPod } from "./programmed_pod.ts";

/** Makes one change; returns it in words. */
export type ProgramDrift = (pod: ProgrammedPod, dice: Dice) => string;

/** Changes by their names; each can be made to a pod that is as it should be. */
export const programDrifts: Readonly<Record<string, ProgramDrift>> = {
  "a program is detached": (pod, dice) =>
    pod.withPrograms(({ all }) => {
      using cgroup = openForReading(pod.kubelet.pod.path);
      const { hook, program } = dice.pick(all.filter(({ hook }) => hook !== LOOKUP_HOOK));
      detachFromCgroup(cgroup, program, hook.attachType);
      return hook.name;
    }),
  "all programs are detached": (pod) =>
    pod.withPrograms(({ all }) => {
      using cgroup = openForReading(pod.kubelet.pod.path);
      for (const { hook, program } of all) {
        if (hook !== LOOKUP_HOOK) detachFromCgroup(cgroup, program, hook.attachType);
      }
      return "all";
    }),
  "a program is replaced by one of other rules": (pod, dice) =>
    pod.withPrograms(({ all, mapIds }) => {
      const config = { ...pod.config, sidecarUid: 1 + dice.below(5000) };
      const plan = planPrograms(compileRuleset(config, readNamespaceFacts()), pod.way);
      // Only these know the sidecar's user.
      const name = dice.pick(CONNECT);
      const planned = plan.cgroup.find(({ hook }) => hook.name === name)!;
      const old = all.find(({ hook }) => hook.name === planned.hook.name)!;
      using maps = OpenMaps.open(mapIds);
      using program = load(planned, maps);
      using cgroup = openForReading(pod.kubelet.pod.path);
      attachToCgroup(cgroup, program, planned.hook.attachType, old.program);
      return `${planned.hook.name} for user ${config.sidecarUid}`;
    }),
  "a second program of the same name is attached": (pod, dice) =>
    pod.withPrograms(({ mapIds }) => {
      const plan = planPrograms(compileRuleset(pod.config, readNamespaceFacts()), pod.way);
      const planned = dice.pick(plan.cgroup);
      using maps = OpenMaps.open(mapIds);
      using program = load(planned, maps);
      using cgroup = openForReading(pod.kubelet.pod.path);
      attachToCgroup(cgroup, program, planned.hook.attachType);
      return planned.hook.name;
    }),
  "a program has maps of its own": (pod, dice) =>
    pod.withPrograms(({ all }) => {
      const plan = planPrograms(compileRuleset(pod.config, readNamespaceFacts()), pod.way);
      const planned = dice.pick(plan.cgroup);
      const old = all.find(({ hook }) => hook.name === planned.hook.name)!;
      using maps = OpenMaps.create();
      using program = load(planned, maps);
      using cgroup = openForReading(pod.kubelet.pod.path);
      attachToCgroup(cgroup, program, planned.hook.attachType, old.program);
      return planned.hook.name;
    }),
  "an address is gone from the map": (pod, dice) =>
    withAddresses(pod, (map) => {
      const own = bpfMapKeys(map, 16).filter((key) => !isSpecial(key));
      const key = dice.pick(own);
      removeFromBpfMap(map, key);
      return key.toHex();
    }),
  "the map does not tell whose it is": (pod) =>
    withAddresses(pod, (map) => {
      removeFromBpfMap(map, SpecialKey.namespace);
      return "no namespace";
    }),
  "somebody else's address is in the map": (pod, dice) =>
    withAddresses(pod, (map) => {
      const key = SpecialKey.source4.slice();
      key.set([10, 1, dice.below(256), 1 + dice.below(254)], 12);
      updateBpfMap(map, key, new Uint8Array(16));
      return key.toHex();
    }),
  "connections come from somebody else's address": (pod, dice) =>
    withAddresses(pod, (map) => {
      const value = SpecialKey.source4.slice();
      value.set([10, 1, dice.below(256), 1 + dice.below(254)], 12);
      updateBpfMap(map, SpecialKey.source4, value);
      return value.toHex();
    }),
  "the address ::6 is gone": (pod) =>
    pod.namespace.run(() => {
      removeAddress(getLink("lo").index, PASSTHROUGH_ADDRESS, 128);
      return PASSTHROUGH_ADDRESS;
    }),
};

const CONNECT = ["kuma_connect4", "kuma_connect6"];

/** Where incoming connections are the part of a program. */
export const lookupDrifts: Readonly<Record<string, ProgramDrift>> = {
  "the pin is gone": (pod) => {
    unpin(pod.pinFolder);
    const isThere = () => pod.withPrograms((installed) => installed.at(LOOKUP_HOOK).length > 0);
    // The kernel frees the link a moment later.
    for (let tries = 0; isThere() && tries < 500; tries++) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
    return isThere() ? "and the link is not" : "and the link with it";
  },
  "the link is detached": (pod) =>
    pod.withPrograms((installed) => {
      const { program, info } = installed.at(LOOKUP_HOOK)[0]!;
      using link = findNamespaceLink(Deno.statSync("/proc/thread-self/ns/net").ino!, info.id)!;
      detachLink(link);
      return `${program.number > 0}`;
    }),
  "the link leads to a program of other rules": (pod, dice) =>
    pod.withPrograms((installed) => {
      const { info } = installed.at(LOOKUP_HOOK)[0]!;
      const port = 20_000 + dice.below(1000);
      const config = { ...pod.config, inbound: { ...pod.config.inbound, excludePorts: [port] } };
      const plan = planPrograms(compileRuleset(config, readNamespaceFacts()), "sk_lookup");
      using maps = OpenMaps.open(installed.mapIds);
      using program = load(plan.lookup!, maps);
      using link = findNamespaceLink(Deno.statSync("/proc/thread-self/ns/net").ino!, info.id)!;
      updateLink(link, program);
      return `port ${port}`;
    }),
};

/** Where they are the part of nftables. */
export const hybridDrifts: Readonly<Record<string, ProgramDrift>> = {
  "the rules for incoming connections are gone": (pod) =>
    `${pod.namespace.run(() => new NftablesEngine().remove())}`,
};

/** All that can happen to a pod. */
export function driftsOf({ way }: ProgrammedPod): Readonly<Record<string, ProgramDrift>> {
  return { ...programDrifts, ...(way === "sk_lookup" ? lookupDrifts : hybridDrifts) };
}

function withAddresses<T>(
  pod: ProgrammedPod,
  work: (map: NonNullable<ReturnType<OpenMaps["get"]>>) => T,
): T {
  return pod.withPrograms(({ all }) => {
    using maps = OpenMaps.open(mapIdsOf(all.filter(({ hook }) => hook !== LOOKUP_HOOK)));
    return work(maps.get(MapName.addresses)!);
  });
}

function isSpecial(key: Uint8Array): boolean {
  return Object.values(SpecialKey).some((one) => one.toHex() === key.toHex());
}
