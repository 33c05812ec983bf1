/**
 * The table of `docs/security.md`: which capability install-cni needs on which host. It really runs
 * without the others: they are taken out of its bounding set, and it cannot gain any.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { InstallerHost, primaryList } from "./support/installer_host.ts";

const listName = "10-calico.conflist";
/** Somebody who is not root. */
const stranger = 1000;

/** Command line words that leave root nothing but these capabilities. */
function withOnly(...capabilities: readonly string[]): string[] {
  const set = ["-all", ...capabilities.map((name) => `+${name}`)].join(",");
  return [
    "setpriv",
    `--bounding-set=${set}`,
    "--inh-caps=-all",
    "--ambient-caps=-all",
    "--no-new-privs",
  ];
}

interface Row {
  /** What is not as on most hosts. */
  readonly host: string;
  readonly capabilities: readonly string[];
  prepare(host: InstallerHost): void;
  /** What the log says when it never gets ready; ready without it. */
  readonly trouble?: RegExp;
  /** Owner of the list afterwards. */
  readonly owner: number;
}

const rootsAll = { host: "all is root's", prepare: () => {} };
const strangersList = {
  host: "the list is another user's",
  prepare: (host: InstallerHost) =>
    Deno.chownSync(`${host.netDir}/${listName}`, stranger, stranger),
};
const strangersPrivateList = {
  host: "the list is another user's, for nobody else to read",
  prepare: (host: InstallerHost) => {
    Deno.chmodSync(`${host.netDir}/${listName}`, 0o600);
    Deno.chownSync(`${host.netDir}/${listName}`, stranger, stranger);
  },
};
const strangersFolders = {
  host: "the folders are another user's",
  prepare: (host: InstallerHost) => {
    for (const path of [host.netDir, host.binDir]) Deno.chownSync(path, stranger, stranger);
  },
};
const closedFolders = {
  host: "root may not write in its folders",
  prepare: (host: InstallerHost) => {
    for (const path of [host.netDir, host.binDir]) Deno.chmodSync(path, 0o555);
  },
};

const rows: readonly Row[] = [
  { ...rootsAll, capabilities: [], owner: 0 },
  { ...strangersList, capabilities: [], owner: 0 },
  { ...strangersList, capabilities: ["chown"], owner: stranger },
  { ...strangersPrivateList, capabilities: [], trouble: /[Pp]ermission denied/, owner: stranger },
  { ...strangersPrivateList, capabilities: ["dac_override"], owner: 0 },
  { ...strangersFolders, capabilities: [], trouble: /[Pp]ermission denied/, owner: 0 },
  { ...strangersFolders, capabilities: ["dac_override"], owner: 0 },
  { ...closedFolders, capabilities: [], trouble: /[Pp]ermission denied/, owner: 0 },
  { ...closedFolders, capabilities: ["dac_override"], owner: 0 },
];

for (const { host: what, capabilities, prepare, trouble, owner } of rows) {
  const rights = capabilities.length === 0 ? "no capability" : capabilities.join(", ");
  Deno.test(`rights: ${what}, ${rights}: ${trouble ? "not ready, and why" : "ready"}`, async () => {
    await using host = new InstallerHost();
    host.writeConf(listName, primaryList);
    prepare(host);
    const installer = host.start({}, [], withOnly(...capabilities));
    const path = `${host.netDir}/${listName}`;
    if (trouble !== undefined) {
      await installer.until("it says what is wrong", () => trouble.test(installer.stderr));
      equal(host.isReady, false);
      equal(Deno.readTextFileSync(path), primaryList);
    } else {
      await installer.until("it is ready", () => host.isReady);
      deepEqual(host.typesIn(listName), ["calico", "portmap", "kuma-cni"]);
    }
    const status = Deno.readTextFileSync(`/proc/${installer.process.pid}/status`);
    const bounding = /^CapBnd:\t([0-9a-f]+)$/m.exec(status)?.[1] ?? "";
    equal(
      [...BigInt(`0x${bounding}`).toString(2)].filter((bit) => bit === "1").length,
      capabilities.length,
      "it runs with these capabilities alone",
    );
    match(status, /^NoNewPrivs:\t1$/m);
    equal(await installer.terminate(), 0);
    equal(Deno.statSync(path).uid, owner);
    if (trouble === undefined && owner === 0 && what !== rootsAll.host && /list/.test(what)) {
      ok(installer.stderr.includes("CAP_CHOWN"), installer.stderr);
      equal(Deno.statSync(path).mode! & 0o777, what === strangersList.host ? 0o644 : 0o600);
    }
  });
}

Deno.test("rights: without any capability a list of another user's is given back, but for its owner", async () => {
  await using host = new InstallerHost();
  host.writeConf(listName, primaryList);
  strangersList.prepare(host);
  const before = host.snapshot();
  const installer = host.start({ KUMA_CNI_UNINSTALL: "true" }, [], withOnly());
  await installer.until("it is ready", () => host.isReady);
  equal(await installer.terminate(), 0, installer.stderr);
  const owners = (text: string) => text.replaceAll(`${stranger}:${stranger}`, "0:0");
  deepEqual(
    Object.entries(host.snapshot()),
    Object.entries(before).map(([name, text]) => [name, owners(text)]),
  );
});
