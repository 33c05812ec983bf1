/**
 * Network namespaces, virtual links, addresses and routes of one's own making, for tests and the
 * demo; the plugin does not use it. No iproute2 is needed. Facts: `unshare(2)`, `mount(2)`,
 * rtnetlink(7), `linux/if_link.h`, `linux/veth.h`.
 *
 * Everything is synchronous and needs `--allow-ffi`, `--allow-read`, `--allow-write` and
 * `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.
 */
import { addAddress, AF_INET, AF_INET6, getLink } from "../../src/linux/addresses.ts";
import { EINVAL, LinuxError } from "../../src/linux/errno.ts";
import { addressBytes } from "../../src/ip/address.ts";
import { checked, cString, lastErrno, libc, openForReading } from "../../src/linux/libc.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "../../src/linux/netlink.ts";
import {
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
} from "../../src/linux/netlink_message.ts";
import { LostNamespaceError, withNetworkNamespace } from "../../src/linux/network_namespace.ts";

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 0x100000;
const MNT_DETACH = 2;

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_NEWROUTE = 24;
const IFLA_IFNAME = 3;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFF_UP = 1;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;
const IFINFOMSG_LENGTH = 16;

// Loaded with the module, both libraries: Deno's tests take a library that a test loads for a leak.
const mountLibc = Deno.dlopen("libc.so.6", {
  unshare: { parameters: ["i32"], result: "i32" },
  mount: { parameters: ["buffer", "buffer", "buffer", "usize", "pointer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
}).symbols;
libc();

/** Folder of named namespaces, the same as iproute2's. */
export const NETNS_FOLDER = "/run/netns";

/** A network namespace that stays until it is disposed of; its links and rules go with it. */
export class NamedNamespace implements Disposable {
  /** File of the namespace, what `CNI_NETNS` holds. */
  readonly path: string;

  constructor(readonly name: string) {
    this.path = `${NETNS_FOLDER}/${name}`;
  }

  /** Does synchronous work inside; see {@linkcode withNetworkNamespace}. */
  run<T>(work: () => T): T {
    return withNetworkNamespace(this.path, work);
  }

  /** Deletes the namespace; does nothing when it is gone. */
  [Symbol.dispose](): void {
    deleteNamespace(this.name);
  }
}

/** Returns a name that no other test uses, for example `kuma-test-1f9a03bc`. */
export function uniqueName(prefix = "kuma-test-"): string {
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Makes a network namespace and binds it to `/run/netns/<name>`, as `ip netns add` does.
 *
 * @param loopback its loopback interface; runtimes set it up, and the plugin waits for that
 * @throws {LinuxError} when it exists already or the kernel refuses; nothing is left then.
 */
export function createNamespace(
  name: string = uniqueName(),
  loopback: "up" | "down" = "up",
): NamedNamespace {
  makeSharedFolder();
  const namespace = new NamedNamespace(name);
  Deno.openSync(namespace.path, { write: true, createNew: true, mode: 0o444 }).close();
  try {
    bindNewNamespace(namespace.path);
    if (loopback === "up") namespace.run(() => setLinkUp("lo"));
  } catch (error) {
    Deno.removeSync(namespace.path);
    throw error;
  }
  return namespace;
}

function bindNewNamespace(path: string): void {
  using home = openForReading("/proc/thread-self/ns/net");
  checked("Cannot make a network namespace", () => mountLibc.unshare(CLONE_NEWNET));
  try {
    mount("/proc/thread-self/ns/net", path, MS_BIND);
  } finally {
    returnHome(home.number);
  }
}

function returnHome(home: number): void {
  if (libc().setns(home, CLONE_NEWNET) !== -1) return;
  throw new LostNamespaceError("Cannot return from a new network namespace", lastErrno());
}

/**
 * Makes `/run/netns` a shared mount as `ip netns` does, so that a later `ip netns add` does not
 * cover the namespaces that are there.
 */
function makeSharedFolder(): void {
  Deno.mkdirSync(NETNS_FOLDER, { recursive: true, mode: 0o755 });
  try {
    mount("", NETNS_FOLDER, MS_SHARED | MS_REC);
  } catch (error) {
    if (!(error instanceof LinuxError) || error.errno !== EINVAL) throw error;
    mount(NETNS_FOLDER, NETNS_FOLDER, MS_BIND | MS_REC);
    mount("", NETNS_FOLDER, MS_SHARED | MS_REC);
  }
}

function mount(source: string, target: string, flags: number): void {
  const [from, to, type] = [cString(source), cString(target), cString("none")];
  checked(
    `Cannot mount ${JSON.stringify(source)} on ${JSON.stringify(target)}`,
    () => mountLibc.mount(from, to, type, BigInt(flags), null),
  );
}

/** Unbinds and deletes a named namespace; does nothing when it is gone. */
export function deleteNamespace(name: string): void {
  const path = `${NETNS_FOLDER}/${name}`;
  const target = cString(path);
  mountLibc.umount2(target, MNT_DETACH);
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/**
 * Makes a pair of virtual Ethernet links in the current namespace, both down.
 *
 * @param peerNamespace File of the namespace that the peer goes to; stays here when absent.
 * @throws {LinuxError} when a name exists or the kernel refuses.
 */
export function createVethPair(name: string, peerName: string, peerNamespace?: string): void {
  using target = peerNamespace === undefined ? undefined : openForReading(peerNamespace);
  request(`Cannot make the veth pair "${name}", "${peerName}"`, RTM_NEWLINK, (message) => {
    message.raw(new Uint8Array(IFINFOMSG_LENGTH)).attributeText(IFLA_IFNAME, name);
    const info = message.beginNested(IFLA_LINKINFO);
    message.attributeText(IFLA_INFO_KIND, "veth");
    const data = message.beginNested(IFLA_INFO_DATA);
    const peer = message.beginNested(VETH_INFO_PEER);
    message.raw(new Uint8Array(IFINFOMSG_LENGTH)).attributeText(IFLA_IFNAME, peerName);
    if (target !== undefined) message.attributeU32(IFLA_NET_NS_FD, target.number);
    message.endAttribute(peer).endAttribute(data).endAttribute(info);
  });
}

/** Makes a bridge in the current namespace, down. */
export function createBridge(name: string): void {
  request(`Cannot make the bridge "${name}"`, RTM_NEWLINK, (message) => {
    message.raw(new Uint8Array(IFINFOMSG_LENGTH)).attributeText(IFLA_IFNAME, name);
    const info = message.beginNested(IFLA_LINKINFO);
    message.attributeText(IFLA_INFO_KIND, "bridge").endAttribute(info);
  });
}

/** Makes a link a port of a bridge; both are in the current namespace. */
export function attachToBridge(name: string, bridge: string): void {
  const [port, master] = [getLink(name).index, getLink(bridge).index];
  request(`Cannot attach "${name}" to the bridge "${bridge}"`, RTM_NEWLINK, (message) => {
    linkHeader(message, port, 0).attributeU32(IFLA_MASTER, master);
  }, 0);
}

/** Brings a link up. */
export function setLinkUp(name: string): void {
  const { index } = getLink(name);
  request(
    `Cannot bring "${name}" up`,
    RTM_NEWLINK,
    (message) => linkHeader(message, index, IFF_UP),
    0,
  );
}

/** Deletes a link, and the peer of a veth with it. */
export function deleteLink(name: string): void {
  const { index } = getLink(name);
  request(`Cannot delete "${name}"`, RTM_DELLINK, (message) => linkHeader(message, index, 0), 0);
}

function linkHeader(message: MessageBuilder, index: number, flags: number): MessageBuilder {
  return message.u32(0).u32(index).u32(flags).u32(flags);
}

/**
 * Adds an address without duplicate address detection.
 *
 * @param cidr Address and prefix length, for example `10.1.2.3/24` or `fd00::1/64`.
 */
export function addLinkAddress(name: string, cidr: string): void {
  const [address, prefix] = splitCidr(cidr);
  addAddress(getLink(name).index, address, prefix);
}

/** A route: to a network, over a gateway or directly onto a link. */
export interface Route {
  /** Network such as `10.0.0.0/8`, or `default4`, `default6`. */
  readonly to: string;
  readonly via?: string;
  readonly dev?: string;
}

/** Adds a route to the main table. */
export function addRoute(route: Route): void {
  const [network, prefix] = route.to === "default4"
    ? ["0.0.0.0", 0] as const
    : route.to === "default6"
    ? ["::", 0] as const
    : splitCidr(route.to);
  const destination = addressBytes(network);
  const scope = route.via === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  request(`Cannot add a route to ${route.to}`, RTM_NEWROUTE, (message) => {
    message.u8(destination.length === 4 ? AF_INET : AF_INET6).u8(prefix).u8(0).u8(0)
      .u8(RT_TABLE_MAIN).u8(RTPROT_BOOT).u8(destination.length === 4 ? scope : RT_SCOPE_UNIVERSE)
      .u8(RTN_UNICAST).u32(0);
    if (prefix > 0) message.attribute(RTA_DST, destination);
    if (route.via !== undefined) message.attribute(RTA_GATEWAY, addressBytes(route.via));
    if (route.dev !== undefined) message.attributeU32(RTA_OIF, getLink(route.dev).index);
  });
}

function splitCidr(cidr: string): readonly [address: string, prefix: number] {
  const [address = "", prefix = ""] = cidr.split("/");
  if (!/^\d{1,3}$/.test(prefix)) throw new TypeError(`Cannot read "${cidr}" as address/prefix`);
  return [address, Number(prefix)];
}

/**
 * Writes a kernel setting of the current namespace, for example
 * `writeSysctl("net/ipv4/ip_forward", "1")`.
 */
export function writeSysctl(name: string, value: string): void {
  // /proc/sys/net shows the namespace of the thread that opens the file, unlike /proc/net.
  Deno.writeTextFileSync(`/proc/sys/${name}`, value);
}

function request(
  attempt: string,
  type: number,
  write: (message: MessageBuilder) => unknown,
  flags = NLM_F_CREATE | NLM_F_EXCL,
): void {
  using socket = new NetlinkSocket(NETLINK_ROUTE);
  const message = new MessageBuilder(256)
    .beginMessage(type, NLM_F_REQUEST | NLM_F_ACK | flags, socket.nextSequence());
  write(message);
  socket.request(attempt, message.endMessage().data);
}
