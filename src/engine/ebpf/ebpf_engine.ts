/**
 * The eBPF engine: programs at the pod's cgroup send outgoing connections to the sidecar when they
 * are made, one at its network namespace does so with incoming ones. No packet is translated.
 */
import { attachToCgroup, detachFromCgroup } from "../../linux/bpf.ts";
import { EPERM, LinuxError } from "../../linux/errno.ts";
import { openForReading } from "../../linux/libc.ts";
import type { Ruleset } from "../../redirect/ruleset.ts";
import { messageOf } from "../../text/message_of.ts";
import { type ApplyResult, type Difference, type Engine, EngineError } from "../engine.ts";
import { addPassthroughAddress, passthroughAddressDifferences } from "../passthrough_address.ts";
import { addressDifferences, addressEntries, namespaceOf, writeAddresses } from "./address_map.ts";
import { ProgramTooLongError } from "./assembler.ts";
import { type LoadedProgram, loadUnlessOptional, replaceAt, Undo } from "./attach.ts";
import { cannot } from "./cannot.ts";
import { compareAttached, comparePrograms } from "./compare.ts";
import { attachLookup, detachLookup, InboundError, isPinned, loadLookup } from "./inbound_link.ts";
import {
  hasNftablesRules,
  inboundRulesDifferences,
  installInboundRules,
  removeNftablesRules,
} from "./inbound_rules.ts";
import { type InstalledPrograms, mapIdsOf, readInstalled } from "./installed.ts";
import { type EbpfEngineOptions, type InboundWay, PROGRAMS_NAMESPACE } from "./interface.ts";
import { OpenMaps } from "./maps.ts";
import { linkPin, unpin } from "./pins.ts";
import { LOOKUP_HOOK, planPrograms } from "./programs.ts";
import { natRules } from "./rule_code.ts";
import { expectedPrograms } from "./tags.ts";

export { cannot } from "./cannot.ts";
export { readCounters } from "./counters.ts";
export { pinFolderOf, sweepPins, unpin } from "./pins.ts";

const OWN_NAMESPACE = "/proc/thread-self/ns/net";

/**
 * Redirects a pod's traffic by eBPF programs. Needs `--allow-ffi`, `--allow-read`, `CAP_BPF`,
 * `CAP_NET_ADMIN` and, to find its own programs again, `CAP_SYS_ADMIN`.
 *
 * The table of the nftables engine in the same namespace is this engine's business as well: it is
 * removed when all is done by programs, and holds the rules for incoming connections otherwise.
 */
export class EbpfEngine implements Engine {
  readonly name = "ebpf";

  constructor(private readonly options: EbpfEngineOptions) {}

  apply(ruleset: Ruleset): ApplyResult {
    return translated("install the programs", () => {
      refuse(ruleset);
      const { inbound, pinFolder } = this.options;
      const notes: string[] = [];
      if (inbound === "sk_lookup" || (inbound === undefined && pinFolder !== undefined)) {
        try {
          return this.#apply(ruleset, "sk_lookup", notes);
        } catch (error) {
          if (inbound !== undefined || !(error instanceof InboundError)) throw error;
          notes.push(`Incoming connections are redirected by nftables: ${messageOf(error)}`);
        }
      }
      return this.#apply(ruleset, "nftables", notes);
    });
  }

  verify(ruleset: Ruleset): readonly Difference[] {
    return translated("compare the programs", () => {
      refuse(ruleset);
      using cgroup = openForReading(this.options.cgroup);
      using namespace = openForReading(OWN_NAMESPACE);
      using installed = readInstalled(cgroup, namespace);
      const lookedUp = installed.at(LOOKUP_HOOK).length > 0 ||
        !hasNftablesRules() && this.options.inbound !== "nftables";
      const differences = comparePrograms(
        installed,
        expectedPrograms(ruleset, lookedUp ? "sk_lookup" : "nftables"),
      );
      if (ruleset.families.length > 0 && !lookedUp) {
        differences.push(...inboundRulesDifferences(ruleset));
      }
      differences.push(...mapDifferences(installed));
      if (ruleset.ipv6PassthroughAddress) differences.push(...passthroughAddressDifferences());
      const { pinFolder } = this.options;
      if (pinFolder !== undefined && installed.at(LOOKUP_HOOK).length > 0 && !isPinned(pinFolder)) {
        differences.push({ kind: "missing", object: `BPF pin ${linkPin(pinFolder)}` });
      }
      return differences;
    });
  }

  /**
   * Detaches the programs from the cgroup and from the namespace and removes the pins. Rules of
   * nftables for incoming connections stay: removing them is that engine's part.
   */
  remove(): boolean {
    return translated("remove the programs", () => {
      using cgroup = openForReading(this.options.cgroup);
      using namespace = openForReading(OWN_NAMESPACE);
      using installed = readInstalled(cgroup, namespace);
      for (const { hook, program, info } of installed.all) {
        if (hook !== LOOKUP_HOOK) detachFromCgroup(cgroup, program, hook.attachType);
        else detachLookup(namespaceInode(), info.id);
      }
      const pinned = this.options.pinFolder !== undefined && unpin(this.options.pinFolder);
      return pinned || installed.all.length > 0;
    });
  }

  #apply(ruleset: Ruleset, way: InboundWay, notes: string[]): ApplyResult {
    const plan = planPrograms(ruleset, way);
    using open = new DisposableStack();
    // Declared later, so that it is done earlier, with all that it needs still open.
    using undo = new Undo();
    const cgroup = open.use(openForReading(this.options.cgroup));
    const namespace = open.use(openForReading(OWN_NAMESPACE));
    const inode = namespaceInode();
    const before = open.use(readInstalled(cgroup, namespace));

    if (ruleset.ipv6PassthroughAddress) {
      const address = addPassthroughAddress();
      undo.add(() => address.undo());
      if (address.note !== undefined) notes.push(address.note);
    }
    const entries = addressEntries(inode);
    const maps = open.use(mapsOf(before, inode));
    writeAddresses(maps, entries);

    const loaded: LoadedProgram[] = [];
    for (const planned of plan.cgroup) {
      const program = loadUnlessOptional(planned, maps, notes);
      if (program !== undefined) loaded.push({ hook: planned.hook, program: open.use(program) });
    }
    const lookup = plan.lookup && open.use(loadLookup(plan.lookup, maps));

    const { pinFolder } = this.options;
    if (lookup !== undefined) {
      attachLookup(lookup, { pinFolder, namespace, inode, before }, undo, open);
    }
    for (const { hook, program } of loaded) replaceAt(cgroup, hook, program, before, undo);
    for (const { hook, program } of before.all) {
      if (hook === LOOKUP_HOOK || loaded.some((one) => one.hook === hook)) continue;
      detachFromCgroup(cgroup, program, hook.attachType);
      undo.add(() => attachToCgroup(cgroup, program, hook.attachType));
    }

    // The last step, since the rules that were there before cannot be put back.
    if (way === "nftables") installInboundRules(ruleset, undo);

    const differences = [
      ...compareAttached(cgroup, loaded),
      ...lookup === undefined
        ? []
        : compareAttached(namespace, [{ hook: LOOKUP_HOOK, program: lookup }]),
      ...addressDifferences(maps, entries),
    ];
    if (differences.length > 0) {
      throw new EngineError(
        "Cannot install the eBPF programs: The kernel has others than were attached",
        "ebpf",
        { differences },
      );
    }
    undo.forget();
    if (way === "sk_lookup") removeNftablesRules();
    // One that is still there belongs to another pin folder, or nothing comes in any more.
    for (const { info } of before.at(LOOKUP_HOOK)) detachLookup(inode, info.id);
    if (lookup === undefined && pinFolder !== undefined) unpin(pinFolder);
    return {
      engine: this.name,
      backend: way,
      families: ruleset.families.map(({ family }) => family),
      ruleCount: ruleset.families.flatMap(natRules).length,
      notes: [...new Set(notes)],
    };
  }
}

function refuse(ruleset: Ruleset): void {
  const reasons = cannot(ruleset);
  if (reasons.length === 0) return;
  throw new EngineError(`The eBPF engine cannot do this: ${reasons.join("; ")}`, "ebpf");
}

function namespaceInode(): number {
  return Deno.statSync(OWN_NAMESPACE).ino!;
}

/**
 * The maps of the programs that are there, unless they are for another namespace: they know listeners
 * and connections that will not be told again. What nobody has kept is made anew.
 */
function mapsOf(before: InstalledPrograms, inode: number): OpenMaps {
  const maps = OpenMaps.open(before.mapIds);
  try {
    if ((namespaceOf(maps) ?? inode) === inode) {
      maps.makeMissing();
      return maps;
    }
  } catch (error) {
    maps[Symbol.dispose]();
    throw error;
  }
  maps[Symbol.dispose]();
  return OpenMaps.create();
}

/**
 * Compares the maps. Programs of an earlier sandbox, or of another pod, may have the same
 * instructions; and programs that do not share their maps do not know of each other's connections.
 */
function mapDifferences({ all }: InstalledPrograms): Difference[] {
  const [atCgroup, atNamespace] = [true, false].map((wanted) =>
    mapIdsOf(all.filter(({ hook }) => (hook !== LOOKUP_HOOK) === wanted))
  ) as [ReadonlySet<number>, ReadonlySet<number>];
  if (atCgroup.size === 0) return [];
  // Only those at the cgroup: the one for incoming connections is at this namespace for certain.
  using maps = OpenMaps.open(atCgroup);
  const differences = addressDifferences(maps, addressEntries(namespaceInode()));
  if (differences.some(({ object }) => object === PROGRAMS_NAMESPACE)) return differences;
  if (maps.several.length > 0 || !atNamespace.isSubsetOf(atCgroup)) {
    const actual = maps.several.join(", ") || LOOKUP_HOOK.name;
    differences.push({ kind: "changed", object: "BPF maps that the programs share", actual });
  }
  return differences;
}

/** Turns errors of the kernel into errors of the engine, with the fix where it is known. */
function translated<T>(attempt: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof EngineError && error.engine === "ebpf") throw error;
    const known = error instanceof LinuxError || error instanceof EngineError ||
      error instanceof InboundError || error instanceof ProgramTooLongError ||
      error instanceof RangeError;
    if (!known) throw error;
    throw new EngineError(
      `Cannot ${attempt} of eBPF: ${messageOf(error)}${remedy(error)}`,
      "ebpf",
      { cause: error },
    );
  }
}

function remedy(error: unknown): string {
  if (!(error instanceof LinuxError) || error.errno !== EPERM) return "";
  return "; the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN are needed, and a program " +
    "at a parent of the pod's cgroup must allow others below";
}
