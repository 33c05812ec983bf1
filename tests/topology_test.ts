import assert from "node:assert/strict";
import { addAddress, listAddresses, listLinks, loopbackLink } from "../src/linux/addresses.ts";
import {
  addLinkAddress,
  addRoute,
  attachToBridge,
  createBridge,
  createNamespace,
  createVethPair,
  deleteLink,
  setLinkUp,
  writeSysctl,
} from "./support/topology.ts";

Deno.test("links, bridge, addresses, routes and settings are made in the right namespace", () => {
  using pod = createNamespace();
  using router = createNamespace();
  router.run(() => {
    createBridge("br0");
    addLinkAddress("br0", "10.97.3.1/24");
    addLinkAddress("br0", "fd97:3::1/64");
    setLinkUp("br0");
    createVethPair("v0", "eth0", pod.path);
    attachToBridge("v0", "br0");
    setLinkUp("v0");
    writeSysctl("net/ipv4/ip_forward", "1");
    assert.deepEqual(listLinks().map(({ name }) => name).sort(), ["br0", "lo", "v0"]);
  });
  pod.run(() => {
    setLinkUp("lo");
    addLinkAddress("eth0", "10.97.3.2/24");
    addLinkAddress("eth0", "fd97:3::2/64");
    setLinkUp("eth0");
    addRoute({ to: "default4", via: "10.97.3.1" });
    addRoute({ to: "default6", via: "fd97:3::1" });
    addRoute({ to: "10.200.0.0/16", dev: "eth0" });
    assert.match(Deno.readTextFileSync("/proc/thread-self/net/route"), /eth0\t0000C80A\t/);
    assert.equal(Deno.readTextFileSync("/proc/sys/net/ipv4/ip_forward"), "0\n");
    const addresses = listAddresses().map(({ address, prefix }) => `${address}/${prefix}`);
    for (const own of ["127.0.0.1/8", "::1/128", "10.97.3.2/24", "fd97:3::2/64"]) {
      assert(addresses.includes(own), `${own} in ${addresses}`);
    }
    assert(listAddresses("ipv4").every(({ family }) => family === "ipv4"));
  });
  router.run(() => {
    assert.equal(Deno.readTextFileSync("/proc/sys/net/ipv4/ip_forward"), "1\n");
    deleteLink("v0");
  });
  pod.run(() => assert.deepEqual(listLinks().map(({ name }) => name), ["lo"]));
});

Deno.test("the passthrough address is added once, also to a loopback that is down", () => {
  using pod = createNamespace(undefined, "down");
  pod.run(() => {
    const lo = loopbackLink();
    assert.deepEqual([lo.name, lo.loopback, lo.up], ["lo", true, false]);
    assert.equal(addAddress(lo.index, "::6", 128), true);
    assert.equal(addAddress(lo.index, "::6", 128), false);
    assert.deepEqual(
      listAddresses("ipv6"),
      [{ family: "ipv6", address: "::6", prefix: 128, linkIndex: lo.index }],
    );
  });
});

Deno.test("a disabled IPv6 is reported by its error code", () => {
  using pod = createNamespace();
  pod.run(() => {
    writeSysctl("net/ipv6/conf/all/disable_ipv6", "1");
    assert.throws(() => addAddress(1, "::6", 128), {
      code: "EACCES",
      message: /^Cannot add address ::6\/128 to interface 1: EACCES .*: .*IPv6 is disabled/i,
    });
    assert.throws(() => addAddress(77, "10.0.0.1", 32), { code: "ENODEV" });
  });
});
