/** What other programs do while the plugin is uninstalled. */
import { equal, ok } from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { uninstall } from "../installer/loop/uninstall.ts";
import { exists } from "./support/files.ts";
import { InstallerHost, primaryList, quietLog } from "./support/installer_host.ts";
import { doWork } from "./support/installer_work.ts";
import "./support/load_libc.ts";

const list = "10-calico.conflist";

Deno.test("an entry that another program writes back while it is waited is taken out, too", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  equal(await doWork("install", host.settings(), new Operations()), undefined);
  const chained = host.readConf(list)!;
  ok(chained.includes("kuma-cni"));

  const ended = uninstall(host.settings(), new Operations(), quietLog(), { settle: 300 });
  // Everything up to the pause was done before the call came back.
  equal(host.readConf(list), primaryList);
  ok(exists(`${host.binDir}/kuma-cni`), "the program stays while runtimes may still call it");
  host.writeConf(list, chained);
  await ended;
  equal(host.readConf(list), primaryList);
  ok(!exists(`${host.binDir}/kuma-cni`));
});
