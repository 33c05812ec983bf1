/** Atomic changes of host files: on file systems with and without exchange, and after kills. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import {
  removeFile,
  replaceFile,
  targetOfTemporaryName,
  temporaryName,
} from "../installer/host/host_files.ts";
import { type Before, sha256, writeJournal } from "../installer/host/journal.ts";
import { Operations } from "../installer/host/operations.ts";
import { recover } from "../installer/loop/recover.ts";
import { LinuxError } from "../src/linux/errno.ts";
import { chain } from "./support/conflist_texts.ts";
import { InstallerHost, primaryList, quietLog } from "./support/installer_host.ts";
import "./support/load_libc.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const owner = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0 };

/** Operations on a file system that can neither exchange nor rename to free names only. */
class PlainOperations extends Operations {
  override exchange(one: string, other: string): boolean {
    throw new LinuxError(`Cannot exchange "${one}" and "${other}"`, 22);
  }
}

/** Names in a folder. */
function namesIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), (entry) => entry.name).sort();
}

Deno.test("a file is replaced only when it is as it was seen", async () => {
  await using host = new InstallerHost();
  const path = `${host.netDir}/a.conf`;
  const operations = new Operations();
  const attributes = { mode: 0o640, ...owner };
  equal(replaceFile(operations, path, undefined, bytes("1"), attributes), "done");
  equal(Deno.statSync(path).mode! & 0o7777, 0o640);
  equal(replaceFile(operations, path, undefined, bytes("2"), attributes), "changed");
  equal(replaceFile(operations, path, bytes("x"), bytes("2"), attributes), "changed");
  equal(Deno.readTextFileSync(path), "1");
  equal(replaceFile(operations, path, bytes("1"), bytes("2"), attributes), "done");
  equal(Deno.readTextFileSync(path), "2");
  Deno.removeSync(path);
  equal(replaceFile(operations, path, bytes("2"), bytes("3"), attributes), "changed");
  deepEqual(namesIn(host.netDir), []);
});

Deno.test("the content is on the disk before the name changes, and the name before the end", async () => {
  await using host = new InstallerHost();
  const path = `${host.netDir}/a.conf`;
  const done: string[] = [];
  const operations = new Operations(({ name, path, changes }) => {
    if (changes) done.push(`${name}${path === host.netDir ? " of the folder" : ""}`);
  });
  const attributes = { mode: 0o600, ...owner };
  const replace = (expected: string | undefined, content: string) => {
    done.length = 0;
    const seen = expected === undefined ? undefined : bytes(expected);
    equal(replaceFile(operations, path, seen, bytes(content), attributes), "done");
    return [...done];
  };
  const written = ["create", "write", "write", "sync"];
  const folder = "sync directory of the folder";
  deepEqual(replace(undefined, "1"), [...written, "rename if free", folder]);
  deepEqual(replace("1", "2"), [...written, "exchange", "remove", folder]);
  done.length = 0;
  equal(removeFile(operations, path, bytes("2")), "done");
  equal(done.at(-1), folder);
});

Deno.test("a file system without exchange gets the file by rename", async () => {
  await using host = new InstallerHost();
  const path = `${host.netDir}/a.conf`;
  Deno.writeTextFileSync(path, "1");
  const attributes = { mode: 0o644, ...owner };
  const operations = new PlainOperations();
  equal(replaceFile(operations, path, bytes("1"), bytes("2"), attributes), "done");
  equal(replaceFile(operations, path, bytes("1"), bytes("3"), attributes), "changed");
  equal(Deno.readTextFileSync(path), "2");
  deepEqual(namesIn(host.netDir), ["a.conf"]);
});

Deno.test("a failing operation leaves the old file and no temporary one", async () => {
  await using host = new InstallerHost();
  const path = `${host.netDir}/a.conf`;
  Deno.writeTextFileSync(path, "1");
  const attributes = { mode: 0o640, ...owner };
  for (const failing of ["write", "set mode", "sync", "read", "exchange"]) {
    const operations = new Operations(({ name }) => {
      if (name === failing) throw new Error(`${failing} failed`);
    });
    throws(
      () => replaceFile(operations, path, bytes("1"), bytes("2"), attributes),
      { message: `${failing} failed` },
    );
    equal(Deno.readTextFileSync(path), "1");
    deepEqual(namesIn(host.netDir), ["a.conf"], failing);
  }
});

Deno.test("a file is removed only when it is as it was seen", async () => {
  await using host = new InstallerHost();
  const path = `${host.netDir}/a.conf`;
  Deno.writeTextFileSync(path, "1");
  equal(removeFile(new Operations(), path, bytes("2")), "changed");
  equal(Deno.readTextFileSync(path), "1");
  // Written anew in the last moment.
  const operations = new Operations(({ name }) => {
    if (name === "rename") Deno.writeTextFileSync(path, "3");
  });
  equal(removeFile(operations, path, bytes("1")), "changed");
  equal(Deno.readTextFileSync(path), "3");
  equal(removeFile(new Operations(), path, bytes("3")), "done");
  equal(removeFile(new Operations(), path, bytes("3")), "done");
  deepEqual(namesIn(host.netDir), []);
});

Deno.test("temporary names are never loaded by a runtime and tell their target", () => {
  const name = temporaryName("/etc/cni/net.d/10-a.conflist");
  ok(name.startsWith("/etc/cni/net.d/.10-a.conflist.kuma-cni-"));
  ok(!/\.(conf|conflist|json)$/.test(name));
  equal(targetOfTemporaryName(name.slice("/etc/cni/net.d/".length)), "10-a.conflist");
  equal(targetOfTemporaryName("10-a.conflist"), undefined);
});

Deno.test("a change that a killed process had swapped out comes back at the next start", async () => {
  await using host = new InstallerHost();
  const list = "10-calico.conflist";
  const operations = new Operations();
  const settings = host.settings();
  const ours = chain(primaryList, '{"type":"kuma-cni"}');
  const foreign = primaryList.replace('"calico"', '"calico-2"');
  const before: Before = { kind: "file", content: bytes(primaryList), mode: 0o644, ...owner };
  const start = (left: string) => {
    Deno.mkdirSync(`${host.netDir}/kuma-cni.d`, { recursive: true });
    const journal = new Map([[list, { before, wrote: sha256(bytes(ours)) }]]);
    writeJournal(operations, `${host.netDir}/kuma-cni.d`, journal);
    host.writeConf(list, ours);
    Deno.writeTextFileSync(temporaryName(`${host.netDir}/${list}`), left);
    recover(settings, operations, quietLog());
    deepEqual(namesIn(host.netDir), [list, "kuma-cni.d"]);
    return host.readConf(list);
  };
  equal(start(foreign), foreign, "the newest foreign text");
  equal(start(primaryList), ours, "the text that ours was made of");
  equal(start(ours), ours, "our own text, not yet in place");
  equal(start(ours.slice(0, 50)), ours, "our own text, half written");
});
