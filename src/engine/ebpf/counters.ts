/** What a pod's programs have counted, for operators. */
import { lookUpBpfMap } from "../../linux/bpf_maps.ts";
import { openForReading } from "../../linux/libc.ts";
import { readInstalled } from "./installed.ts";
import type { EbpfCounters } from "./interface.ts";
import { type Counter, COUNTERS, MapName } from "./layout.ts";
import { OpenMaps } from "./maps.ts";

/**
 * Reads what the programs of a pod's cgroup have counted.
 *
 * @param cgroup folder of the pod's cgroup
 * @returns nothing when there are none of ours
 * @throws {LinuxError} when there is no such folder, or without `CAP_SYS_ADMIN`.
 */
export function readCounters(cgroup: string): EbpfCounters | undefined {
  using folder = openForReading(cgroup);
  using installed = readInstalled(folder);
  if (installed.all.length === 0) return undefined;
  using maps = OpenMaps.open(installed.mapIds);
  const counters = maps.get(MapName.counters);
  if (counters === undefined) return undefined;
  const counted = lookUpBpfMap(counters, new Uint8Array(4), 8 * COUNTERS.length);
  if (counted === undefined) return undefined;
  const view = new DataView(counted.buffer);
  const read = (counter: Counter) => Number(view.getBigUint64(8 * COUNTERS.indexOf(counter), true));
  return {
    outbound: read("outbound"),
    inbound: read("inbound"),
    dns: read("dns"),
    refused: read("refused"),
    lost: read("lost"),
    programs: installed.all.map(({ info: { name, id, runs, nanoseconds } }) => ({
      ...{ name, id, runs, nanoseconds },
    })),
  };
}
