import assert from "node:assert/strict";
import { contains, parseCidr } from "../src/ip/cidr.ts";
import { addressBytes, formatAddress, parseAddress } from "../src/ip/address.ts";

const addresses: [text: string, canonical: string | undefined][] = [
  ["0.0.0.0", "0.0.0.0"],
  ["255.255.255.255", "255.255.255.255"],
  ["256.0.0.1", undefined],
  ["01.2.3.4", undefined],
  ["1.2.3", undefined],
  ["1.2.3.4.5", undefined],
  ["1.2.3.4 ", undefined],
  ["1.2.3.+4", undefined],
  ["", undefined],
  [":", undefined],
  ["::", "::"],
  [":::", undefined],
  ["::1", "::1"],
  ["::6", "::6"],
  ["1::", "1::"],
  ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["0001:0:0:2:0:0:0:3", "1:0:0:2::3"],
  ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ["1:2:3:4:5:6:7:8:9", undefined],
  ["1:2:3:4:5:6:7::8", undefined],
  ["1:2:3:4:5:6:7", undefined],
  ["1::2::3", undefined],
  ["12345::", undefined],
  ["g::", undefined],
  ["fe80::1%eth0", undefined],
  ["[::1]", undefined],
  ["64:ff9b::192.0.2.1", "64:ff9b::c000:201"],
  ["::192.0.2.1", "::192.0.2.1"],
  ["::ffff:192.0.2.1", "::ffff:192.0.2.1"],
  ["1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"],
  ["1:2:3:4:5:6:7:1.2.3.4", undefined],
  ["1.2.3.4::", undefined],
  ["::1.2.3.4:5", undefined],
  ["::1.2.3", undefined],
  ["0".repeat(1000), undefined],
];

Deno.test("addresses are parsed strictly and written as the system's tools write them", () => {
  for (const [text, canonical] of addresses) {
    const address = parseAddress(text);
    assert.equal(address && formatAddress(address.bytes), canonical, text);
  }
});

const networks: [text: string, canonical: string | undefined][] = [
  ["10.70.0.1/16", "10.70.0.0/16"],
  ["10.255.255.255/9", "10.128.0.0/9"],
  ["10.0.0.1/0", "0.0.0.0/0"],
  ["10.0.0.1", "10.0.0.1/32"],
  ["10.0.0.1/32", "10.0.0.1/32"],
  ["10.0.0.1/33", undefined],
  ["10.0.0.1/", undefined],
  ["10.0.0.1/08", undefined],
  ["10.0.0.1/-1", undefined],
  ["10.0.0.1/255.0.0.0", undefined],
  ["fd77::1/48", "fd77::/48"],
  ["2001:db8:ffff::/33", "2001:db8:8000::/33"],
  ["::/0", "::/0"],
  ["::1/128", "::1/128"],
  ["::1/129", undefined],
  ["::ffff:10.1.2.3", "10.1.2.3/32"],
  ["::ffff:10.1.2.3/104", "10.0.0.0/8"],
  ["::ffff:10.1.2.3/95", undefined],
];

Deno.test("networks lose their host bits", () => {
  for (const [text, canonical] of networks) {
    const cidr = parseCidr(text);
    assert.equal(cidr && `${cidr.address}/${cidr.prefix}`, canonical, text);
    if (cidr) assert.equal(cidr.family, canonical!.includes(":") ? "ipv6" : "ipv4");
  }
});

Deno.test("a network contains the addresses that share its prefix", () => {
  const holds = (network: string, address: string) =>
    contains(parseCidr(network)!, parseAddress(address)!);
  assert.ok(holds("10.128.0.0/9", "10.200.1.1"));
  assert.ok(!holds("10.128.0.0/9", "10.127.1.1"));
  assert.ok(holds("0.0.0.0/0", "1.2.3.4"));
  assert.ok(!holds("0.0.0.0/0", "::1"));
  assert.ok(holds("fd00::/7", "fc00::1"));
  assert.ok(!holds("fd77::/48", "fd77:0:1::"));
});

Deno.test("addresses survive the way to bytes and back", () => {
  const canonical = [
    "0.0.0.0",
    "127.0.0.6",
    "255.255.255.255",
    "::",
    "::6",
    "::1",
    "fd00:10:96::a",
  ];
  canonical.push(
    "2001:db8::1:0:0:1",
    "1:2:3:4:5:6:7:8",
    "1:0:3:4:5:6:7:8",
    "fe80::",
  );
  for (const text of canonical) assert.equal(formatAddress(addressBytes(text)), text);
  assert.equal(formatAddress(addressBytes("::ffff:102:304")), "::ffff:1.2.3.4");
  assert.equal(formatAddress(addressBytes("FD00:0::0:A")), "fd00::a");
  const wrong = [
    "",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
  ];
  wrong.push("1:2:3:4:5:6:7:8:9", "12345::", "::g", "::1%lo", "1:2:3:4:5:6:7::8:9", "1.2.3.4::");
  for (const text of wrong) assert.throws(() => addressBytes(text), TypeError, text);
});
