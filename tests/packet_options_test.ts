import assert from "node:assert/strict";
import { type PacketWords, readPacket } from "../installer/commands/packet_options.ts";
import type { Packet } from "../src/redirect/evaluate.ts";

function read(from: string, to: string, more: Partial<PacketWords> = {}): Packet {
  return readPacket({ from, to, podIps: [], ...more }, 5678);
}

const app = { direction: "outbound", protocol: "tcp", sourcePort: 40000 } as const;

const cases: [from: string, to: string, more: Partial<PacketWords>, wanted: Packet][] = [
  ["uid=1000", "10.0.0.1:443/tcp", {}, {
    ...app,
    family: "ipv4",
    source: "192.0.2.10",
    destination: "10.0.0.1",
    destinationPort: 443,
    uid: 1000,
  }],
  ["uid=0", "[fd00::1]:80", { podIps: ["10.1.1.1", "fd01::1"] }, {
    ...app,
    family: "ipv6",
    source: "fd01::1",
    destination: "fd00::1",
    destinationPort: 80,
    uid: 0,
  }],
  ["sidecar", "127.0.0.6:20000", {}, {
    ...app,
    family: "ipv4",
    source: "127.0.0.1",
    destination: "127.0.0.6",
    destinationPort: 20000,
    uid: 5678,
    outputInterface: "lo",
  }],
  ["sidecar,127.0.0.6", "8080", {}, {
    ...app,
    family: "ipv4",
    source: "127.0.0.6",
    destination: "192.0.2.10",
    destinationPort: 8080,
    uid: 5678,
    outputInterface: "lo",
  }],
  ["uid=7", "10.1.1.1:8080", { podIps: ["10.1.1.1"] }, {
    ...app,
    family: "ipv4",
    source: "10.1.1.1",
    destination: "10.1.1.1",
    destinationPort: 8080,
    uid: 7,
    outputInterface: "lo",
  }],
  ["uid=7", "dns", {}, {
    ...app,
    protocol: "udp",
    family: "ipv4",
    source: "192.0.2.10",
    destination: "198.51.100.53",
    destinationPort: 53,
    uid: 7,
  }],
  ["nobody", "10.0.0.1:1/udp", { state: "established", interface: "net1" }, {
    ...app,
    protocol: "udp",
    family: "ipv4",
    source: "192.0.2.10",
    destination: "10.0.0.1",
    destinationPort: 1,
    outputInterface: "net1",
    conntrackState: "established",
  }],
  ["10.0.0.7", ":8080", { interface: "eth7" }, {
    family: "ipv4",
    direction: "inbound",
    protocol: "tcp",
    source: "10.0.0.7",
    sourcePort: 40000,
    destination: "192.0.2.10",
    destinationPort: 8080,
    inputInterface: "eth7",
  }],
  ["[fd00::7]:53", "9999/udp", {}, {
    family: "ipv6",
    direction: "inbound",
    protocol: "udp",
    source: "fd00::7",
    sourcePort: 53,
    destination: "2001:db8::10",
    destinationPort: 9999,
  }],
  ["uid=1", "fd00::7/icmpv6", {}, {
    family: "ipv6",
    direction: "outbound",
    protocol: "icmpv6",
    source: "2001:db8::10",
    destination: "fd00::7",
    uid: 1,
  }],
];

Deno.test("packets are read as people write them", () => {
  for (const [from, to, more, wanted] of cases) {
    assert.deepEqual(read(from, to, more), wanted, `${from} to ${to}`);
  }
});

Deno.test("who sends can be named: root, the application, the sidecar", () => {
  const uidOf = (from: string, sidecarUid: number) =>
    readPacket({ from, to: "10.0.0.1:80", podIps: [] }, sidecarUid).uid;
  assert.equal(uidOf("root", 5678), 0);
  assert.equal(uidOf("app", 5678), 1000);
  assert.equal(uidOf("app", 1000), 1001, "the application is never the sidecar");
  assert.equal(uidOf("sidecar", 1000), 1000);
});

const bad: [from: string, to: string, more: Partial<PacketWords>, message: RegExp][] = [
  ["uid=x", "10.0.0.1:1", {}, /--from uid=x cannot be read/],
  ["uid=4294967295", "10.0.0.1:1", {}, /--from uid=4294967295 cannot be read/],
  ["uid=1", "10.0.0.1", {}, /has no port/],
  ["uid=1", "10.0.0.1:0", {}, /--to 10\.0\.0\.1:0 cannot be read/],
  ["uid=1", "10.0.0.1:65536", {}, /cannot be read/],
  ["uid=1", "10.0.0:1", {}, /cannot be read/],
  ["uid=1", "10.0.0.1:1/tcp/udp", {}, /cannot be read/],
  ["uid=1", "example.com:80", {}, /cannot be read/],
  ["uid=1", "", {}, /cannot be read/],
  ["uid=1", "[fd00::1]:80/TCP", {}, /unknown protocol "TCP"; expected one of tcp, udp, icmp/],
  ["uid=1", "10.0.0.1:80/tpc", {}, /unknown protocol "tpc"/],
  ["uid=1", "fd00::1:80", {}, /has no port; write "\[fd00::1\]:80" if 80 is the port/],
  ["uid=1", "fd00::1:80/udp", {}, /write "\[fd00::1\]:80\/udp" if/],
  ["uid=1", "fd00::a", {}, /has no port; write for example "\[fd00::a\]:443"/],
  ["uid=1", "10.0.0.1:80/icmp", {}, /has a port.*write for example "10\.0\.0\.1\/icmp"/],
  ["uid=1", "80/icmp", {}, /has a port.*write for example "192\.0\.2\.10\/icmp"/],
  ["uid=1", "fd00::7/icmp", {}, /write "fd00::7\/icmpv6"/],
  ["uid=1", "10.0.0.7/icmpv6", {}, /write "10\.0\.0\.7\/icmp"/],
  ["10.0.0.7/icmp", "8080", {}, /names a protocol; that belongs to --to.*"10\.0\.0\.1\/icmp"/],
  ["uid=1,10.0.0.7:1/udp", "8080", {}, /belongs to --to/],
  ["5678", "10.0.0.1:80", {}, /may mean a user or a port; write "uid=5678" for/],
  ["sidecar,80", "10.0.0.1:80", {}, /may mean a user or a port/],
  ["toString", "10.0.0.1:80", {}, /cannot be read; expected "uid=1000", "root", "app"/],
  ["10.0.0.7", "[fd00::1]:1", {}, /different IP families/],
  ["10.0.0.7", "127.0.0.1:1", {}, /cannot be reached from 10\.0\.0\.7/],
  ["uid=1", "80", { podIps: ["pod"] }, /Pod IP "pod" is not an IP address/],
];

Deno.test("what is no packet is refused with what is expected", () => {
  for (const [from, to, more, message] of bad) assert.throws(() => read(from, to, more), message);
});
