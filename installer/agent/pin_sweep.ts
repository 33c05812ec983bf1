/**
 * Removes what the engine `ebpf` pinned for sandboxes that are gone: the plugin does so at each DEL,
 * but a node may have lost power in the middle of one, and not every runtime calls GC.
 */
import type { EbpfModule, SweptPin } from "../../src/engine/ebpf/interface.ts";
import { messageOf } from "../../src/text/message_of.ts";
import type { Service, ServiceContext } from "../loop/service.ts";

/** How often it looks, in milliseconds; a pin that stays holds some pages of the kernel. */
const INTERVAL = 10 * 60_000;

/** The part of the engine that it needs. */
export type PinSweeper = Pick<EbpfModule, "sweepPins">;

/** Sweeps at the start, now and then, and at the end, which is before everything is removed. */
export class PinSweep implements Service {
  #context: ServiceContext | undefined;
  #engine: PinSweeper | undefined;
  #last = Number.NEGATIVE_INFINITY;

  /**
   * @param bpffs Where this program sees the host's BPF file system.
   * @param load Loads the engine, which most nodes never need.
   * @param now The time in milliseconds; tests have their own.
   */
  constructor(
    private readonly bpffs: string,
    private readonly load: () => Promise<PinSweeper>,
    private readonly now: () => number = () => performance.now(),
  ) {}

  async start(context: ServiceContext): Promise<void> {
    this.#context = context;
    try {
      this.#engine = await this.load();
    } catch (error) {
      this.#warn(error);
    }
    this.tick();
  }

  tick(): void {
    if (this.now() - this.#last < INTERVAL) return;
    this.#last = this.now();
    this.#sweep();
  }

  stop(): void {
    this.#sweep();
    this.#engine = undefined;
  }

  /** Never of a pod that runs: its namespace is alive, and that is all that counts. */
  #sweep(): void {
    try {
      const swept = this.#engine?.sweepPins(this.bpffs) ?? [];
      const removed = swept.filter((pin: SweptPin) => pin.removed);
      if (removed.length === 0) return;
      this.#context?.log.info("Pins of pods that are gone were removed", {
        containers: removed.map(({ containerId }) => containerId).slice(0, 20),
        count: removed.length,
      });
    } catch (error) {
      this.#warn(error);
    }
  }

  #warn(error: unknown): void {
    this.#context?.log.warn(
      `Pins of the engine "ebpf" in "${this.bpffs}" cannot be looked at: ${messageOf(error)}`,
    );
  }
}
