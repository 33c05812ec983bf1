/**
 * The nftables engine: our own nf_tables netlink code, no program is run. All families are installed
 * in one transaction of the kernel.
 */
import {
  EAFNOSUPPORT,
  ENOENT,
  EOPNOTSUPP,
  EPERM,
  EPROTONOSUPPORT,
  ERESTART,
  LinuxError,
} from "../../linux/errno.ts";
import type { Link } from "../../linux/addresses.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../linux/netlink.ts";
import { NFT_TABLE } from "../../redirect/nft_layout.ts";
import type { Ruleset } from "../../redirect/ruleset.ts";
import { messageOf } from "../../text/message_of.ts";
import { type ApplyResult, type Difference, type Engine, EngineError } from "../engine.ts";
import { addPassthroughAddress, passthroughAddressDifferences } from "../passthrough_address.ts";
import { compareTables } from "./compare.ts";
import {
  type Batch,
  type BatchObject,
  buildBatch,
  type EncodedTable,
  encodeTables,
  forGeneration,
} from "./encode.ts";
import { type Layout, planTables } from "./plan.ts";
import { type InstalledTable, readGeneration, readTables } from "./read_back.ts";

/** How often a transaction is tried again when another program changed the ruleset meanwhile. */
const TRIES = 10;

/** A message of the transaction that the kernel refused. */
class RefusedError extends LinuxError {
  constructor(attempt: string, errno: number, detail: string | undefined) {
    super(attempt, errno, detail);
  }
}

/** What a caller has open and has seen in the namespace, so that it need not be done once more. */
export interface OpenNamespace {
  readonly netfilter: NetlinkSocket;
  readonly route: NetlinkSocket;
  readonly loopback: Link;
}

/** Installs rulesets as nf_tables table `kuma_mesh`. Needs `--allow-ffi` and `CAP_NET_ADMIN`. */
export class NftablesEngine implements Engine {
  readonly name = "nftables";

  /**
   * @param layout `auto` puts both families into one `inet` table where the kernel has network
   * address translation there (5.2 and later), else into tables `ip` and `ip6`.
   */
  constructor(private readonly layout: Layout | "auto" = "auto") {}

  apply(ruleset: Ruleset, open?: OpenNamespace): ApplyResult {
    return translated("install the rules", () => {
      using opened = open === undefined ? new NetlinkSocket(NETLINK_NETFILTER) : undefined;
      const socket = open?.netfilter ?? opened!;
      const address = ruleset.ipv6PassthroughAddress
        ? addPassthroughAddress(open?.loopback, open?.route)
        : undefined;
      try {
        const tables = this.#install(socket, ruleset);
        const differences = compareTables(socket, tables);
        if (differences.length > 0) {
          replaceTables(socket, []);
          throw new EngineError(
            `Cannot install the nf_tables rules: The kernel has other rules than were sent: ${
              differences.map(describeDifference).join("; ")
            }`,
            this.name,
            { differences },
          );
        }
      } catch (error) {
        address?.undo();
        throw error;
      }
      return {
        engine: this.name,
        families: ruleset.families.map(({ family }) => family),
        ruleCount: countRules(ruleset),
        notes: [...notesOf(ruleset), ...(address?.note === undefined ? [] : [address.note])],
      };
    });
  }

  verify(ruleset: Ruleset): readonly Difference[] {
    return translated("compare the rules", () => {
      using socket = new NetlinkSocket(NETLINK_NETFILTER);
      const installed = readTables(socket);
      const perFamily = installed.some(({ family }) => family !== "inet") &&
        !installed.some(({ family }) => family === "inet");
      const layout = this.layout === "auto" ? (perFamily ? "per-family" : "inet") : this.layout;
      const tables = encoded(ruleset, layout);
      return [
        ...compareTables(socket, tables, installed),
        ...(ruleset.ipv6PassthroughAddress ? passthroughAddressDifferences() : []),
      ];
    });
  }

  /** Deletes our tables of all families. The address `::6` stays: another engine may need it. */
  remove(): boolean {
    return translated("remove the rules", () => {
      using socket = new NetlinkSocket(NETLINK_NETFILTER);
      return replaceTables(socket, []).length > 0;
    });
  }

  #install(socket: NetlinkSocket, ruleset: Ruleset): readonly EncodedTable[] {
    const layouts: readonly Layout[] = this.layout === "auto"
      ? ["inet", "per-family"]
      : [this.layout];
    // A kernel may have no network address translation in `inet` tables, and no counters, which only
    // tell how much was redirected; what else it lacks the last try will tell.
    const forms = [true, false].flatMap((counters) =>
      layouts.map((layout) => ({ layout, counters }))
    );
    for (const [index, { layout, counters }] of forms.entries()) {
      try {
        const tables = encoded(ruleset, layout, counters);
        replaceTables(socket, tables);
        return tables;
      } catch (error) {
        const isLast = index === forms.length - 1;
        const mayHelp = error instanceof RefusedError && mayBeMissing(error.errno);
        if (isLast || !mayHelp) throw error;
      }
    }
    return [];
  }
}

/** What was encoded last of a ruleset, for a program that installs the same one many times. */
const lastEncoded = new WeakMap<
  Ruleset,
  { layout: Layout; counters: boolean; tables: readonly EncodedTable[] }
>();

function encoded(ruleset: Ruleset, layout: Layout, counters = true): readonly EncodedTable[] {
  const last = lastEncoded.get(ruleset);
  if (last?.layout === layout && last.counters === counters) return last.tables;
  const tables = encodeTables(planTables(ruleset, layout), ruleset.comments, counters);
  lastEncoded.set(ruleset, { layout, counters, tables });
  return tables;
}

function mayBeMissing(errno: number): boolean {
  return errno === ENOENT || errno === EOPNOTSUPP || errno === EAFNOSUPPORT;
}

/**
 * Replaces all our tables in one transaction and returns those that were there before.
 *
 * @throws {RefusedError} when the kernel refuses; everything is as before then.
 */
function replaceTables(
  socket: NetlinkSocket,
  tables: readonly EncodedTable[],
): readonly InstalledTable[] {
  for (let tries = 1;; tries++) {
    const generation = readGeneration(socket);
    const present = readTables(socket);
    if (present.length === 0 && tables.length === 0) return present;
    const batch = batchFor(present, tables, generation, socket.nextSequence());
    const refusal = sendBatch(socket, batch);
    if (refusal === undefined) return present;
    if (refusal.errno !== ERESTART || tries === TRIES) throw refusal;
  }
}

/** What was built last for a namespace without our tables, for a program that does so many times. */
const lastBatches = new WeakMap<readonly EncodedTable[], Batch>();

function batchFor(
  present: readonly InstalledTable[],
  tables: readonly EncodedTable[],
  generation: number,
  firstSequence: number,
): Batch {
  if (present.length > 0) return buildBatch(present, tables, generation, firstSequence);
  const last = lastBatches.get(tables);
  // Whoever asks the same questions before has the same numbers.
  if (last?.firstSequence === firstSequence) return forGeneration(last, generation);
  const batch = buildBatch(present, tables, generation, firstSequence);
  lastBatches.set(tables, batch);
  return batch;
}

function sendBatch(socket: NetlinkSocket, batch: Batch): RefusedError | undefined {
  const attempt = "Cannot change the nf_tables ruleset";
  const errors = socket.batch(attempt, batch.data).filter(({ errno }) => errno !== 0);
  const [first] = errors;
  if (first === undefined) return undefined;
  const about = batch.objects[first.sequence - batch.firstSequence];
  const more = errors.length > 1 ? `${errors.length - 1} more messages were refused` : undefined;
  const detail = [first.detail, more].filter((part) => part !== undefined).join("; ");
  return new RefusedError(
    about === undefined ? attempt : `Cannot ${about.action} ${describeObject(about)}`,
    first.errno,
    detail === "" ? undefined : detail,
  );
}

function describeObject({ table, chain, rule }: BatchObject): string {
  const place = `table ${table.family} ${table.name}`;
  if (chain === undefined) return place;
  if (rule === undefined) return `chain ${chain} of ${place}`;
  return `rule ${rule.position} (${rule.id}) of chain ${chain} of ${place}`;
}

function describeDifference({ kind, object, expected, actual }: Difference): string {
  const words = [expected && `expected "${expected}"`, actual && `actual "${actual}"`];
  return [`${object} is ${kind}`, ...words.filter(Boolean)].join(", ");
}

function countRules({ families }: Ruleset): number {
  const chains = families.flatMap(({ tables }) => tables).flatMap((table) => table.chains);
  return chains.reduce((sum, { rules }) => sum + rules.length, 0);
}

function notesOf({ families }: Ruleset): string[] {
  const foreign = new Set<string>();
  for (const { tables } of families) {
    for (const { chains } of tables) {
      const names = new Set(chains.map(({ name }) => name));
      for (const { verdict } of chains.flatMap(({ rules }) => rules)) {
        if (verdict.kind === "jump" && !names.has(verdict.chain)) foreign.add(verdict.chain);
      }
    }
  }
  return [...foreign].map((chain) =>
    `Chain "${chain}" is in another table, where nftables cannot jump to: the packet leaves table ` +
    `"${NFT_TABLE}" there and goes on to the rules that lead to that chain`
  );
}

/** Turns errors of the kernel into errors of the engine, with the fix where it is known. */
function translated<T>(attempt: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof EngineError) throw error;
    const reason = messageOf(error);
    throw new EngineError(
      `Cannot ${attempt} with nftables: ${reason}${remedy(error)}`,
      "nftables",
      { cause: error },
    );
  }
}

function remedy(error: unknown): string {
  if (!(error instanceof LinuxError)) return "";
  switch (error.errno) {
    case EPERM:
      return "; run with the capability CAP_NET_ADMIN in that network namespace";
    case EPROTONOSUPPORT:
      return '; this kernel has no nf_tables, use the engine "iptables"';
    default:
      return "";
  }
}
