/** Finds the programs of the engine `ebpf` of running pods, as this process sees the host. */
import type { EbpfForPod } from "../../src/engine/choice/ebpf.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { seenPath } from "../host/runtime_view.ts";
import type { Settings } from "../settings/declarations.ts";
import { readPluginEntry } from "../settings/plugin_entry.ts";

/** A sandbox that may have programs. */
export type SandboxOfPod = Pick<LedgerEntry, "sandbox" | "podUid">;

/**
 * Finds the programs of a sandbox, or why it has none that can be seen. With `wanted` they are what
 * the pod should have, otherwise what it may have.
 */
export type ProgramsOf = (sandbox: SandboxOfPod, wanted?: boolean) => EbpfForPod;

/** Tells whether the engine `ebpf` is what captured a sandbox's pod. */
export function hasPrograms({ outcome }: LedgerEntry): boolean {
  return outcome.result === "redirected" && outcome.engine === "ebpf";
}

/** Milliseconds for which the machine's mounts are remembered. */
const viewPause = 10 * 60_000;

/** Loads the engine, which most nodes never need. */
export async function loadProgramsOf(settings: Settings): Promise<ProgramsOf> {
  const [{ EbpfForPod }, engine, { lookAtCgroups }] = await Promise.all([
    import("../../src/engine/choice/ebpf.ts"),
    import("../../src/engine/ebpf/ebpf_engine.ts"),
    import("../../src/linux/cgroup_view.ts"),
  ]);
  const cgroupRoot = cgroupRootOf(settings);
  let view = lookAtCgroups();
  let looked = performance.now();
  return ({ sandbox, podUid }, wanted = true) => {
    // Of what it has of the machine only the mounts are remembered, and those of a container stay.
    if (performance.now() - looked > viewPause) {
      [view, looked] = [lookAtCgroups(), performance.now()];
    }
    const request = {
      wanted,
      because: "the ledger says so",
      strict: true,
      containerId: sandbox,
      bpffs: settings.mountedBpffs || "/sys/fs/bpf",
      ...(podUid === undefined ? {} : { podUid }),
      ...(cgroupRoot === undefined ? {} : { cgroupRoot }),
    };
    return new EbpfForPod(engine, request, view);
  };
}

/** Where the host's control groups are seen; in a container its own ones are elsewhere. */
function cgroupRootOf(settings: Settings): string | undefined {
  const configured = readPluginEntry(settings.networkConfig).settings.ebpfCgroupPath;
  const seen = seenPath(settings, configured ?? "/sys/fs/cgroup");
  return configured !== undefined || isFolder(seen) ? seen : undefined;
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** The engine in a program that must not wait for it. */
export class PodPrograms {
  #loaded: ProgramsOf | undefined;
  #loading = false;
  #failure: string | undefined;

  constructor(private readonly load: () => Promise<ProgramsOf>) {}

  /** What finds programs, when it is loaded; else it is from now on. */
  get(): ProgramsOf | undefined {
    if (!this.#loading) {
      this.#loading = true;
      this.load().then(
        (loaded) => this.#loaded = loaded,
        (error) => this.#failure = messageOf(error),
      );
    }
    return this.#loaded;
  }

  /** Why it cannot be loaded. */
  get failure(): string | undefined {
    return this.#failure;
  }
}
