/**
 * The way of the tools into a pod that has a user namespace of its own (`hostUsers: false`). The kernel
 * takes rules with owner matches only from a caller inside of the user namespace that owns the network
 * namespace (`owner_check` of `xt_owner.c`), and only a process with a single thread can go there.
 */
import type { FileDescriptor } from "../../linux/libc.ts";
import type { Program } from "../../linux/process.ts";
import { foreignUserNamespace } from "../../linux/user_namespace.ts";
import { ToolError } from "./tool_error.ts";
import type { ToolFinder } from "./tools.ts";

/** Whether the thread's network namespace belongs to another user namespace than this process's. */
export function hasForeignOwner(): boolean {
  using owner = foreignUserNamespace();
  return owner !== undefined;
}

/** Starts tools as user 0 of the user namespace that owns the thread's network namespace. */
export class Entrance implements Disposable {
  readonly #owner: FileDescriptor;
  readonly #nsenter: string;

  private constructor(owner: FileDescriptor, nsenter: string) {
    this.#owner = owner;
    this.#nsenter = nsenter;
  }

  /**
   * Finds the way.
   *
   * @returns `undefined` when none is needed
   * @throws {ToolError} when one is needed and the host has no `nsenter`
   * @throws {LinuxError} when the kernel refuses
   */
  static find(finder: ToolFinder): Entrance | undefined {
    const owner = foreignUserNamespace();
    if (owner === undefined) return undefined;
    const nsenter = finder.findProgram("nsenter");
    if (nsenter !== undefined) return new Entrance(owner, nsenter);
    owner[Symbol.dispose]();
    throw new ToolError(
      'Cannot use the engine "iptables": The pod has a user namespace of its own (hostUsers: false), ' +
        `from which its rules must be written, and there is no "nsenter" in ` +
        `${
          finder.folders.join(", ")
        } to start the tools there; install the package "util-linux", ` +
        `or set the engine to "nftables"`,
    );
  }

  /** Lets a program start inside. */
  wrap(program: Program): Program {
    return {
      ...program,
      path: this.#nsenter,
      args: [
        // The short form is all that Busybox has.
        `-U/proc/${Deno.pid}/fd/${this.#owner.number}`,
        "-S",
        "0",
        "-G",
        "0",
        program.path,
        ...program.args,
      ],
    };
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}
