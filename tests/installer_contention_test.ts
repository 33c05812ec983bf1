/** Another program that undoes every change at once: named, and not answered without end. */
import { equal, match, ok } from "node:assert/strict";
import { Contention, likelyCause } from "../installer/loop/contention.ts";
import { InstallerHost } from "./support/installer_host.ts";

const list = "05-cilium.conflist";
const text = '{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}\n';

Deno.test("a program that restores its file at once is named and outwaited", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, text);
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  let restored = 0;
  let fighting = true;
  using watcher = Deno.watchFs(host.netDir, { recursive: false });
  const fight = (async () => {
    for await (const _ of watcher) {
      if (!fighting) return;
      if (host.readConf(list) !== text) {
        restored++;
        host.writeConf(list, text);
      }
    }
  })();
  host.writeConf(list, text);
  await agent.until("named", () => agent.stderr.includes("is rewritten again and again"));
  match(agent.stderr, /"05-cilium.conflist" is rewritten again and again: .*'cni-exclusive'/);
  await agent.until("given a rest", () => !host.isReady, 20_000);
  const atRest = restored;
  await new Promise((resolve) => setTimeout(resolve, 3000));
  ok(restored - atRest <= 4, `${restored - atRest} rounds in 3 s of rest`);
  ok(restored >= 20 && restored < 200, `${restored} rounds`);
  fighting = false;
  host.writeConf(list, text);
  await fight;
  const isChained = () => host.isReady && host.typesIn(list).includes("kuma-cni");
  await agent.until("chained in the end", isChained, 40_000);
  equal(await agent.terminate(), 0);
});

Deno.test("repairs now and then are no contention", () => {
  const contention = new Contention();
  for (let now = 0; now < 1000_000; now += 2000) {
    equal(contention.ask("f", now).wait, 0);
    contention.repaired("f", now);
  }
});

Deno.test("pauses grow to half a minute and end after a minute of calm", () => {
  const contention = new Contention();
  let now = 0;
  let repairs = 0;
  let tells = 0;
  const pauses: number[] = [];
  while (now < 300_000) {
    const { wait, tell } = contention.ask("f", now);
    if (tell) tells++;
    if (wait > 0) pauses.push(wait);
    now += wait;
    contention.repaired("f", now);
    repairs++;
    now += 20;
  }
  ok(repairs < 130, `${repairs} repairs in 5 minutes`);
  ok(tells >= 3 && tells <= 6, `${tells} times told`);
  equal(Math.max(...pauses) <= 30_000 && Math.max(...pauses) > 29_000, true);
  equal(contention.ask("f", now + 60_000).wait, 0);
});

Deno.test("the cause is guessed from the file", () => {
  match(likelyCause(text), /Cilium claims the folder for itself.*false$/);
  match(likelyCause("{}"), /^another program restores this file/);
});
