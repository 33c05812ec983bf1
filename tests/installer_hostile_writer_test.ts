/**
 * A thousand random interleavings with a program that writes the same file: its last word must stand,
 * byte for byte but for our entry, and the installer must get its entry in (or out) in the end.
 *
 * KUMA_TEST_SEED=<number> repeats one interleaving.
 */
import { equal, ok } from "node:assert/strict";
import { byteString, parseJson } from "../installer/conflist/json_edit.ts";
import { Operations } from "../installer/host/operations.ts";
import { unchain } from "./support/conflist_texts.ts";
import { InstallerHost, primaryList } from "./support/installer_host.ts";
import { doWork } from "./support/installer_work.ts";
import "./support/load_libc.ts";

const list = "10-calico.conflist";

/** Random numbers in [0, 1) that a seed decides (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A program that writes the primary's file in every way that programs write files. */
class HostileWriter {
  /** What it has written last; `undefined`: it has deleted the file. */
  last: string | undefined = primaryList;
  actions = 0;
  #generation = 0;
  #unfinished: { file: Deno.FsFile; rest: Uint8Array } | undefined;
  #read: string | undefined;

  constructor(private readonly path: string, private readonly random: () => number) {}

  /** Perhaps does something. */
  tempted(): void {
    if (this.#unfinished !== undefined) return this.finish();
    if (this.actions >= 15 || this.random() > 0.2) return;
    this.actions++;
    const choice = Math.floor(this.random() * 7);
    if (choice === 0) this.#replace(this.#next());
    else if (choice === 1) this.#writeInPlace(this.#next());
    else if (choice === 2) this.#delete();
    else if (choice === 3) this.#replace(this.#withOneMore(this.#current()));
    else if (choice === 4) this.#read = this.#current();
    // What it has read some time ago, and edits only now.
    else if (choice === 5 && this.#read !== undefined) this.#replace(this.#withOneMore(this.#read));
    else if (choice === 6) this.#touch();
  }

  /** Completes what it has begun. */
  finish(): void {
    const { file, rest } = this.#unfinished ?? {};
    this.#unfinished = undefined;
    if (file === undefined || rest === undefined) return;
    file.writeSync(rest);
    file.close();
  }

  #next(): string {
    return primaryList.replace('"calico"', `"calico",\t"generation": ${++this.#generation}`);
  }

  #withOneMore(text: string | undefined): string {
    if (text === undefined) return this.#next();
    return text.replace('"plugins": [', `"plugins": [ {"type":"more-${++this.#generation}"},`);
  }

  #current(): string | undefined {
    try {
      return Deno.readTextFileSync(this.path);
    } catch {
      return undefined;
    }
  }

  #replace(text: string): void {
    Deno.writeTextFileSync(`${this.path}.new`, text);
    Deno.renameSync(`${this.path}.new`, this.path);
    this.last = text;
  }

  #writeInPlace(text: string): void {
    const bytes = new TextEncoder().encode(text);
    const file = Deno.openSync(this.path, { write: true, create: true, truncate: true });
    const middle = Math.floor(this.random() * bytes.length);
    file.writeSync(bytes.subarray(0, middle));
    this.#unfinished = { file, rest: bytes.subarray(middle) };
    this.last = text;
  }

  #delete(): void {
    try {
      Deno.removeSync(this.path);
    } catch {
      // Gone already.
    }
    this.last = undefined;
  }

  #touch(): void {
    const text = this.#current();
    if (text === undefined) return this.#delete();
    Deno.writeTextFileSync(this.path, text);
    // In the moment in which our file covers its own, it writes our text again: no word of its own.
    if (this.last === undefined || unchain(text) === unchain(this.last)) this.last = text;
  }
}

const fixed = Deno.env.get("KUMA_TEST_SEED");
const runs = fixed === undefined ? 500 : 1;
const firstSeed = fixed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(fixed);

for (const work of ["install", "uninstall"] as const) {
  Deno.test(`${runs} interleavings of ${work} with a hostile writer`, async () => {
    let actions = 0;
    for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
      await using host = new InstallerHost();
      host.writeConf(list, primaryList);
      const settings = host.settings();
      const random = randomOf(seed);
      if (work === "uninstall" || random() < 0.5) {
        equal(await doWork("install", settings, new Operations()), undefined);
      }
      const writer = new HostileWriter(`${host.netDir}/${list}`, random);
      writer.last = host.readConf(list);
      const operations = new Operations(() => writer.tempted());
      // A pass that gives up because of the writer is no failure; what counts is the end.
      await doWork(work, settings, operations).catch(() => undefined);
      writer.finish();
      actions += writer.actions;

      const when = `seed ${seed}: KUMA_TEST_SEED=${seed} repeats it`;
      const problem = await doWork(work, settings, new Operations());
      const final = host.readConf(list);
      if (writer.last === undefined) {
        equal(final, undefined, when);
        continue;
      }
      equal(problem, undefined, when);
      ok(final !== undefined, when);
      parseJson(byteString(new TextEncoder().encode(final)));
      equal(unchain(final), unchain(writer.last), when);
      equal(
        host.typesIn(list).filter((type) => type === "kuma-cni").length,
        work === "install" ? 1 : 0,
        when,
      );
      equal(host.typesIn(list).at(-1) === "kuma-cni", work === "install", when);
      const names = Array.from(Deno.readDirSync(host.netDir), (e) => e.name).sort();
      const ours = work === "install" ? ["ZZZ-kuma-cni-kubeconfig", "kuma-cni.d"] : [];
      equal(names.join(), [list, ...ours].join(), when);
    }
    ok(actions > runs, `${actions} actions of the writer`);
  });
}
