/** What a leader remembers of nodes, beyond what the API tells: since when a plugin's agent is away. */
import type { Node } from "./node.ts";

/** A node that is younger is taken for new: the plugin was never there. */
const youngMilliseconds = 5 * 60_000;

interface Memory {
  readonly uid: string;
  readonly bootId: string;
  /** A readiness from before a reboot, which says nothing of the time after it. */
  readonly outdated: string | undefined;
  readyBefore: boolean;
  readySince: string | undefined;
  unreadySince: number | undefined;
}

/** What the decision needs to know of a node's past. */
export interface NodePast {
  readonly readyBefore: boolean;
  readonly unreadyMilliseconds: number;
}

/** Remembers until it is told to forget. */
export class NodeMemory {
  readonly #nodes = new Map<string, Memory>();

  /**
   * @param now A clock in milliseconds that is never set.
   * @param wallClock Tells a node's age, on the first look alone.
   */
  constructor(
    private readonly now: () => number = () => performance.now(),
    private readonly wallClock: () => number = Date.now,
  ) {}

  /** Number of nodes that are remembered. */
  get size(): number {
    return this.#nodes.size;
  }

  /**
   * Notes what a node is like now.
   *
   * @param readySince Since when its pod is ready; `undefined` when none is.
   */
  note(node: Node, readySince: string | undefined): NodePast {
    const memory = this.#recall(node);
    if (readySince !== undefined) {
      if (readySince !== memory.outdated) memory.readyBefore = true;
      memory.readySince = readySince;
      memory.unreadySince = undefined;
      return { readyBefore: memory.readyBefore, unreadyMilliseconds: 0 };
    }
    const now = this.now();
    memory.unreadySince ??= now;
    return { readyBefore: memory.readyBefore, unreadyMilliseconds: now - memory.unreadySince };
  }

  /** Forgets a node that is gone. */
  forget(name: string): void {
    this.#nodes.delete(name);
  }

  #recall(node: Node): Memory {
    const known = this.#nodes.get(node.name);
    if (known?.uid === node.uid && known.bootId === node.bootId) return known;
    const memory = {
      uid: node.uid,
      bootId: node.bootId,
      outdated: known?.uid === node.uid ? known.readySince : undefined,
      // A leader that begins finds nodes whose agents may just be restarting. A node made anew has
      // nothing of the old one, and after a reboot the plugin can be gone: some hosts make their
      // folders anew.
      readyBefore: known === undefined && this.wallClock() - node.created > youngMilliseconds,
      readySince: undefined,
      unreadySince: undefined,
    };
    this.#nodes.set(node.name, memory);
    return memory;
  }
}
