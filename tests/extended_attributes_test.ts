/** Extended attributes of host files survive what install-cni does, and so does what others decide. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { replaceFile } from "../installer/host/host_files.ts";
import { Operations } from "../installer/host/operations.ts";
import {
  extendedAttributes,
  removeExtendedAttribute,
  setExtendedAttribute,
} from "../src/linux/extended_attributes.ts";
import { InstallerHost, primaryList, primarySingle } from "./support/installer_host.ts";
import "./support/installed_once.ts";
import { doWork } from "./support/installer_work.ts";

const text = (value: string) => new TextEncoder().encode(value);
const list = "10-calico.conflist";

/** An access control list (version 2, `linux/posix_acl_xattr.h`): root rw, user 1234 r, mask r. */
const accessList = (() => {
  const entries = [[1, 6, -1], [2, 4, 1234], [4, 4, -1], [16, 4, -1], [32, 0, -1]] as const;
  const bytes = new Uint8Array(4 + 8 * entries.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 2, true);
  entries.forEach(([tag, permissions, id], i) => {
    view.setUint16(4 + 8 * i, tag, true);
    view.setUint16(6 + 8 * i, permissions, true);
    view.setInt32(8 + 8 * i, id, true);
  });
  return bytes;
})();

/** Attributes that a file can have here: what the kernel refuses to a test is left out. */
function mark(path: string): string[] {
  const wanted: [string, Uint8Array][] = [
    ["user.note", text("kept by somebody")],
    ["user.empty", new Uint8Array()],
    ["user.large", new Uint8Array(3000).fill(7)],
    ["trusted.overlay", text("o")],
    ["security.note", text("label")],
    ["system.posix_acl_access", accessList],
  ];
  return wanted.flatMap(([name, value]) => {
    try {
      setExtendedAttribute(path, name, value);
      return [name];
    } catch (error) {
      if (name === "user.note") throw error;
      return [];
    }
  });
}

Deno.test("extended attributes are set, read and removed, of any size", () => {
  const path = Deno.makeTempFileSync({ dir: "/dev/shm", prefix: "kuma-test-" });
  try {
    deepEqual([...extendedAttributes(path).keys()].filter((n) => n.startsWith("user.")), []);
    for (let i = 0; i < 40; i++) setExtendedAttribute(path, `user.number-${i}`, text(`${i}`));
    setExtendedAttribute(path, "user.large", new Uint8Array(20_000).fill(1));
    const read = extendedAttributes(path);
    equal(new TextDecoder().decode(read.get("user.number-39")), "39");
    equal(read.get("user.large")?.length, 20_000);
    removeExtendedAttribute(path, "user.large");
    equal(extendedAttributes(path).has("user.large"), false);
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("extended attributes survive install, heal and uninstall", async () => {
  for (const setUp of [primaryList, primarySingle]) {
    await using host = new InstallerHost();
    const name = setUp === primaryList ? list : "10-flannel.conf";
    const path = `${host.netDir}/${name}`;
    host.writeConf(name, setUp);
    const marked = mark(path);
    ok(marked.length >= 3, `only ${marked} can be set here`);
    const before = extendedAttributes(path);
    const mode = Deno.statSync(path).mode;
    equal(await doWork("install", host.settings(), new Operations()), undefined);
    deepEqual(extendedAttributes(path), before);
    // Another program changes our entry, in place.
    Deno.writeTextFileSync(path, host.readConf(name)!.replace('"info"', '"off"'));
    equal(await doWork("install", host.settings(), new Operations()), undefined);
    deepEqual(extendedAttributes(path), before);
    await doWork("uninstall", host.settings(), new Operations());
    deepEqual(extendedAttributes(path), before);
    deepEqual([Deno.statSync(path).mode, host.readConf(name)], [mode, setUp]);
  }
});

Deno.test("an access control list goes with the mode, and opens nothing that is to be private", () => {
  const folder = Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "kuma-test-" });
  try {
    const path = `${folder}/kubeconfig`;
    Deno.writeTextFileSync(path, "old");
    setExtendedAttribute(path, "system.posix_acl_access", accessList);
    equal(Deno.statSync(path).mode! & 0o777, 0o640, "the list shows in the mode");
    const owner = { uid: Deno.uid()!, gid: Deno.gid()! };
    const operations = new Operations();
    const put = (from: string, to: string, mode: number) =>
      replaceFile(operations, path, text(from), text(to), { mode, ...owner });
    equal(put("old", "new", 0o640), "done");
    deepEqual(extendedAttributes(path).get("system.posix_acl_access"), accessList);
    equal(put("new", "newer", 0o600), "done");
    equal(extendedAttributes(path).has("system.posix_acl_access"), false);
    equal(Deno.statSync(path).mode! & 0o777, 0o600);
    deepEqual(operations.takeRefused(), []);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("an attribute that the kernel refuses is named, and the file is written all the same", () => {
  const folder = Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "kuma-test-" });
  try {
    const path = `${folder}/file`;
    Deno.writeTextFileSync(path, "old");
    // No file system knows this family, so that setting it is refused.
    const operations = new Operations();
    operations.copyExtendedAttributes(path, path, true);
    deepEqual(operations.takeRefused(), []);
    let error: unknown;
    try {
      setExtendedAttribute(path, "unknown.family", text("x"));
    } catch (thrown) {
      error = thrown;
    }
    match(String(error), /Cannot set the extended attribute "unknown.family" of ".*": EOPNOTSUPP/);
    // procfs has files whose attributes cannot be set at all.
    setExtendedAttribute(path, "user.note", text("x"));
    operations.copyExtendedAttributes(path, "/proc/self/comm", true);
    match(operations.takeRefused().join(), /^"user.note" of "\/proc\/self\/comm": E/);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a mode and an owner that others have decided since stay at uninstalling", async () => {
  await using host = new InstallerHost();
  const path = `${host.netDir}/${list}`;
  host.writeConf(list, primaryList);
  equal(await doWork("install", host.settings(), new Operations()), undefined);
  Deno.chmodSync(path, 0o600);
  Deno.chownSync(path, 12, 34);
  setExtendedAttribute(path, "user.since", text("x"));
  await doWork("uninstall", host.settings(), new Operations());
  const { mode, uid, gid } = Deno.statSync(path);
  deepEqual([mode! & 0o777, uid, gid, host.readConf(list)], [0o600, 12, 34, primaryList]);
  ok(extendedAttributes(path).has("user.since"));
});
