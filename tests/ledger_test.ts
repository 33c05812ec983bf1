/** The ledger: what was done to each sandbox, kept whole or not at all, and let go of when over. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Ledger } from "../installer/ledger/ledger.ts";
import { type LedgerView, overEntries } from "../installer/ledger/over.ts";
import { runtimeResults } from "../installer/ledger/runtime_results.ts";
import { formatEntry, type LedgerEntry, parseEntry } from "../src/ledger/entry.ts";
import { LEDGER_FOLDER, MAX_ENTRIES, putEntry, readEntries } from "../src/ledger/folder.ts";
import { parseRedirectConfig } from "../src/ledger/redirect_config_word.ts";
import { forget } from "../src/plugin/forget.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { redirectConfig } from "./support/arbitrary_redirect.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";

/** Works with a project's own folder, as on a host. */
async function withStateFolder(work: (folder: string) => void | Promise<void>): Promise<void> {
  const net = await Deno.makeTempDir({ prefix: "kuma-ledger-" });
  try {
    const folder = `${net}/kuma-cni.d`;
    await Deno.mkdir(folder, { mode: 0o700 });
    await work(folder);
  } finally {
    await Deno.remove(net, { recursive: true });
  }
}

function filesIn(folder: string): string[] {
  return [...Deno.readDirSync(`${folder}/${LEDGER_FOLDER}`)].map(({ name }) => name).sort();
}

Deno.test("An entry is read as it was written, in a file for root alone", async () => {
  await withStateFolder((folder) => {
    const entry = ledgerEntry();
    putEntry(folder, entry);
    assert.deepEqual(readEntries(folder), { entries: [entry], unreadable: [] });
    const path = `${folder}/${LEDGER_FOLDER}`;
    assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o700);
    assert.equal((Deno.statSync(`${path}/${filesIn(folder)[0]}`).mode ?? 0) & 0o777, 0o600);
    const later = { ...entry, time: entry.time + 1 };
    putEntry(folder, later);
    assert.deepEqual(readEntries(folder).entries, [later], "of one attachment the last counts");
  });
});

Deno.test("Every configuration is the same after a stay in the ledger", () => {
  fc.assert(fc.property(redirectConfig, (config) => {
    const entry = ledgerEntry({ config });
    const read = parseEntry(JSON.parse(formatEntry(entry)));
    assert.deepEqual(JSON.parse(JSON.stringify(read)), JSON.parse(JSON.stringify(entry)));
  }));
});

Deno.test("What no version of ours has written becomes no rule", () => {
  const right = JSON.parse(JSON.stringify(defaultRedirectConfig));
  const wrong: [path: string, value: unknown][] = [
    ["rulesVersion", "4"],
    ["sidecarUid", -1],
    ["sidecarUid", "5678\nflush ruleset"],
    ["inbound.port", 0],
    ["inbound.port", 65536],
    ["outbound.excludePorts", [1, "2"]],
    ["outbound.excludeIps", [{ family: "ipv4", address: "fd00::1", prefix: 8 }]],
    ["dns.servers", [{ family: "ipv4", address: "10.0.0.1 accept" }]],
    ["virtualNetworks", [{ interfaceName: "a/b", cidr: {} }]],
    ["log", null],
  ];
  for (const [path, value] of wrong) {
    const copy = structuredClone(right);
    const keys = path.split(".");
    const last = keys.pop()!;
    keys.reduce((at, key) => at[key], copy)[last] = value;
    assert.throws(() => parseRedirectConfig(copy), TypeError, path);
  }
  assert.deepEqual(parseRedirectConfig(right), defaultRedirectConfig);
});

Deno.test("Damaged, begun, foreign and misnamed files are no entries, and go with the next sweep", async () => {
  await withStateFolder((folder) => {
    const ledger = new Ledger(folder);
    const entry = ledgerEntry();
    ledger.put(entry);
    const path = `${folder}/${LEDGER_FOLDER}`;
    const text = formatEntry(entry);
    Deno.writeTextFileSync(`${path}/half@eth0`, text.slice(0, 100));
    Deno.writeTextFileSync(`${path}/empty@eth0`, "");
    Deno.writeTextFileSync(`${path}/other@eth0`, text);
    Deno.writeTextFileSync(`${path}/later@eth0`, text.replace('"format":1', '"format":2'));
    Deno.writeTextFileSync(`${path}/.cut-off@eth0.1`, text.slice(0, 9));
    Deno.symlinkSync("/etc/passwd", `${path}/link@eth0`);
    assert.deepEqual(ledger.read().entries, [entry]);
    assert.equal(ledger.read().unreadable.length, 5);
    assert.equal(ledger.clean({ now: entry.time, boot: bootOf(entry) }), 6);
    assert.deepEqual(filesIn(folder), ["sandbox-1@eth0"]);
    assert.ok(Deno.statSync("/etc/passwd").isFile, "a link goes, not what it points to");
  });
});

Deno.test("A report over the socket is checked, and the ledger has a bound", async () => {
  await withStateFolder(async (folder) => {
    const ledger = new Ledger(folder);
    for (const sandbox of ["../../x", "a/b", "", "a@b", "x".repeat(200)]) {
      assert.throws(() => ledger.record({ ...ledgerEntry(), sandbox }), TypeError, sandbox);
    }
    const file = (i: number) => `${folder}/${LEDGER_FOLDER}/x${i}@eth0`;
    Deno.mkdirSync(`${folder}/${LEDGER_FOLDER}`);
    for (let i = 0; i < MAX_ENTRIES - 2; i++) Deno.writeTextFileSync(file(i), "");
    ledger.record(ledgerEntry());
    ledger.record(ledgerEntry({ sandbox: "last" }));
    for (const sandbox of ["one-more", "and-another"]) {
      assert.throws(() => ledger.record(ledgerEntry({ sandbox })), /4096 entries/);
    }
    Deno.removeSync(file(0));
    await new Promise((resolve) => setTimeout(resolve, 550));
    ledger.record(ledgerEntry({ sandbox: "one-more" }));
    assert.ok(ledger.read().unreadable.length <= MAX_ENTRIES);
  });
});

Deno.test("The ledger's folder may go at any time, and comes back with the next entry", async () => {
  await withStateFolder((folder) => {
    const ledger = new Ledger(folder);
    ledger.put(ledgerEntry());
    Deno.removeSync(`${folder}/${LEDGER_FOLDER}`, { recursive: true });
    ledger.put(ledgerEntry({ sandbox: "later" }));
    assert.deepEqual(filesIn(folder), ["later@eth0"]);
  });
});

const call = (verb: "DEL" | "GC", name: string, values: Record<string, unknown>) => ({
  environment: {
    verb,
    containerId: "sandbox-1",
    interfaceName: "eth0",
    netns: "",
    args: "",
    allowOwnNamespace: false,
  },
  config: { cniVersion: "1.1.0", name, values, bytes: new Uint8Array() },
});

Deno.test("DEL removes its attachment's entry, whatever else the configuration says", async () => {
  await withStateFolder(async (folder) => {
    const other = ledgerEntry({ sandbox: "sandbox-2" });
    const second = { ...ledgerEntry(), interfaceName: "net1" };
    for (const entry of [ledgerEntry(), other, second]) putEntry(folder, entry);
    const kubeconfig = `${folder}/../kubeconfig`.replace("/kuma-cni.d/..", "");
    await forget(call("DEL", "cni", { engine: 7, kubernetes: { kubeconfig } }));
    assert.deepEqual(filesIn(folder), ["sandbox-1@net1", "sandbox-2@eth0"]);
    await forget(call("DEL", "cni", { kubernetes: { kubeconfig } }));
    await forget(call("DEL", "cni", { kubernetes: null, agent: { socket: 3 } }));
    assert.equal(filesIn(folder).length, 2);
  });
});

Deno.test("GC removes what is not valid in its own network, and nothing for a list it cannot read", async () => {
  await withStateFolder(async (folder) => {
    const entries = [
      ledgerEntry(),
      ledgerEntry({ sandbox: "sandbox-2" }),
      { ...ledgerEntry({ sandbox: "sandbox-3" }), network: "other" },
    ];
    for (const entry of entries) putEntry(folder, entry);
    const agent = { socket: `${folder}/agent.sock` };
    const valid = "cni.dev/valid-attachments";
    for (const list of [undefined, null, {}, [3], [{ containerID: "sandbox-1" }]]) {
      await forget(call("GC", "cni", { agent, [valid]: list }));
    }
    assert.equal(filesIn(folder).length, 3);
    await forget(
      call("GC", "cni", { agent, [valid]: [{ containerID: "sandbox-2", ifname: "eth0" }] }),
    );
    assert.deepEqual(filesIn(folder), ["sandbox-2@eth0", "sandbox-3@eth0"]);
  });
});

function bootOf({ outcome }: LedgerEntry): string {
  return outcome.result === "redirected" ? outcome.namespace.boot : "";
}

Deno.test("An entry is over by a certain sign only", () => {
  const entry = ledgerEntry();
  const late = entry.time + 3_600_000;
  const view = (more: Partial<LedgerView>): LedgerView => ({
    now: late,
    boot: bootOf(entry),
    ...more,
  });
  const isOver = (more: Partial<LedgerView>) => overEntries([entry], view(more)).length === 1;
  assert.equal(isOver({}), false, "nothing is seen");
  assert.equal(isOver({ boot: "00000000-0000-0000-0000-000000000000" }), true, "another boot");
  assert.equal(isOver({ hasNamespace: () => false }), true, "its namespace is gone");
  assert.equal(isOver({ hasNamespace: () => false, now: entry.time + 1 }), false, "it is young");
  assert.equal(isOver({ podUids: new Set() }), true, "its pod is gone");
  assert.equal(isOver({ podUids: new Set(["uid-1"]) }), false, "its pod is there");
  assert.equal(
    isOver({ podUids: new Set(), hasNamespace: () => true }),
    false,
    "the sandbox outlives its pod",
  );
  assert.equal(
    isOver({ podUids: new Set(), hasResult: (sandbox) => sandbox === "sandbox-1" }),
    false,
    "the runtime still has the chain",
  );
  assert.equal(isOver({ podUids: new Set(), now: entry.time }), false, "the watch may lag behind");
});

Deno.test("The runtime's results are known by the sandbox in their names, when its cache is seen", async () => {
  await withStateFolder((cache) => {
    assert.equal(runtimeResults(cache), undefined, "nothing is known");
    Deno.mkdirSync(`${cache}/results`);
    Deno.writeTextFileSync(`${cache}/results/my-net-5a5a-eth0`, "{}");
    assert.equal(runtimeResults(cache)?.("5a5a"), true);
    assert.equal(runtimeResults(cache)?.("5a"), false, "a part of another's name");
  });
});
