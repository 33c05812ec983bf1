/** A pass of the node agent parses each configuration once, however often its decisions look at it. */
import { deepEqual, equal } from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { Reconciler } from "../installer/loop/reconcile.ts";
import { Logger } from "../src/log/log.ts";
import { libc } from "../src/linux/libc.ts";
import { InstallerHost, primaryList } from "./support/installer_host.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

/** Counts how often a text of a configuration was decoded, which each parser does by `JSON.parse`. */
class Decodings implements Disposable {
  readonly #parse = JSON.parse;
  #seen: string[] = [];

  constructor() {
    JSON.parse = (text: string, ...rest: []) => {
      this.#seen.push(text);
      return this.#parse(text, ...rest);
    };
  }

  /** Takes the number of times since this was asked last. */
  take(word: string): number {
    const count = this.#seen.filter((text) => text.includes(word)).length;
    this.#seen = [];
    return count;
  }

  [Symbol.dispose](): void {
    JSON.parse = this.#parse;
  }
}

Deno.test("looking, deciding and changing parse a list once for each time that it was read", async () => {
  await using host = new InstallerHost();
  const settings = host.settings();
  for (const [name, marker] of [["10-calico.conflist", "one"], ["20-other.conflist", "two"]]) {
    Deno.writeTextFileSync(
      `${host.netDir}/${name}`,
      primaryList.replace('"calico"', `"calico-${marker}"`),
    );
  }
  const log = new Logger("install-cni", "off", () => {});
  const reconciler = new Reconciler(settings, new Operations(), settings.sourceDir, log);
  using decodings = new Decodings();
  const { plan } = await reconciler.look();
  deepEqual(plan.steps.map(({ kind }) => kind), ["install-plugin", "write", "write"]);
  // The second time is the text that is about to be written, which the runtime must accept.
  equal(decodings.take("calico-one"), 2);
  await reconciler.look();
  equal(decodings.take("calico-two"), 1);
});
