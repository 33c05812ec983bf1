/**
 * The address `::6` on the loopback interface: the sidecar's inbound passthrough connections come
 * from it, and unlike 127.0.0.6 it is not there by itself. Used by all engines, in the network
 * namespace that the calling thread is in.
 */
import {
  addAddress,
  type Link,
  listAddresses,
  loopbackLink,
  removeAddress,
} from "../linux/addresses.ts";
import { LinuxError } from "../linux/errno.ts";
import { readKernelFile } from "../linux/kernel_file.ts";
import type { NetlinkSocket } from "../linux/netlink.ts";
import { pauseThread } from "../linux/poll.ts";
import type { Difference } from "./engine.ts";

/** IPv6 address that marks the sidecar's own inbound connections. */
export const PASSTHROUGH_ADDRESS = "::6";
const PREFIX = 128;
/** Longest wait for the loopback interface to be set up, which takes the runtime milliseconds. */
const PATIENCE_MS = 1_000;
const PAUSE_MS = 5;
/** What the reference plugin "loopback" has to look at the addresses after it set the interface up. */
const LOOK_MS = 20;

/** What {@linkcode addPassthroughAddress} did. */
export interface PassthroughAddition {
  /** A sentence for the log when the address could not be added but nothing needs it. */
  readonly note: string | undefined;
  /** Takes the address away again if it was not there before. */
  undo(): void;
}

/**
 * Adds `::6/128` to the loopback interface, as soon as that is up; after a second also when it is not.
 *
 * @param seen The loopback interface as it was found.
 * @param route Socket of `NETLINK_ROUTE` to use.
 * @throws {LinuxError} when the kernel refuses although the namespace has IPv6 addresses, so that
 * traffic could need it.
 */
export function addPassthroughAddress(seen?: Link, route?: NetlinkSocket): PassthroughAddition {
  const loopback = settledLoopback(seen ?? loopbackLink(route));
  try {
    const added = addAddress(loopback.index, PASSTHROUGH_ADDRESS, PREFIX, route);
    const undo = () => {
      if (added) removeAddress(loopback.index, PASSTHROUGH_ADDRESS, PREFIX);
    };
    return { note: undefined, undo };
  } catch (error) {
    if (!(error instanceof LinuxError) || !withoutIpv6()) throw error;
    const note =
      `IPv6 is disabled in the pod's network namespace, so ${PASSTHROUGH_ADDRESS}/${PREFIX} was ` +
      `not added to "${loopback.name}" (${error.code})`;
    return { note, undo: () => {} };
  }
}

/**
 * Waits for the loopback interface: containerd runs the plugin "loopback" beside the chain, and that
 * one fails the pod ("loopback interface found with non-loopback address") when it comes second.
 */
function settledLoopback(seen: Link): Link {
  if (seen.up) return seen;
  const end = performance.now() + PATIENCE_MS;
  let loopback = seen;
  while (!loopback.up && performance.now() < end) {
    pauseThread(PAUSE_MS);
    loopback = loopbackLink();
  }
  if (loopback.up) pauseThread(LOOK_MS);
  return loopback;
}

/** Tells what is wrong about the address; nothing when the namespace has no IPv6 address at all. */
export function passthroughAddressDifferences(): Difference[] {
  const addresses = listAddresses("ipv6");
  if (addresses.length === 0 && ipv6IsDisabled()) return [];
  const loopback = loopbackLink();
  const there = addresses.some(({ address, linkIndex }) =>
    address === PASSTHROUGH_ADDRESS && linkIndex === loopback.index
  );
  if (there) return [];
  return [{
    kind: "missing",
    object: `address ${PASSTHROUGH_ADDRESS}/${PREFIX} on ${loopback.name}`,
    expected: `${PASSTHROUGH_ADDRESS}/${PREFIX}`,
  }];
}

function withoutIpv6(): boolean {
  return listAddresses("ipv6").length === 0;
}

function ipv6IsDisabled(): boolean {
  try {
    const name = loopbackLink().name;
    return readKernelFile(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`).trim() !== "0";
  } catch (error) {
    if (error instanceof LinuxError && error.code === "ENOENT") return true;
    throw error;
  }
}
