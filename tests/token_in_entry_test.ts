/** The account's token in the plugin's entry, which anybody on the host might read. */
import { equal, match, ok } from "node:assert/strict";
import { exists } from "./support/files.ts";
import {
  InstallerHost,
  networkConfig,
  primaryList,
  primarySingle,
} from "./support/installer_host.ts";

const withToken = networkConfig.replace(
  '"type"',
  '"token": "__SERVICEACCOUNT_TOKEN__", "type"',
);

Deno.test("a file of somebody else that others can read gets no token", async () => {
  await using host = new InstallerHost();
  const path = `${host.netDir}/10-calico.conflist`;
  host.writeConf("10-calico.conflist", primaryList);
  Deno.chmodSync(path, 0o644);
  const agent = host.start({ CNI_NETWORK_CONFIG: withToken });
  await agent.until("said", () => agent.stderr.includes("to be readable for root alone"));
  equal(host.readConf("10-calico.conflist"), primaryList);
  ok(!host.isReady);
  Deno.chmodSync(path, 0o600);
  await agent.until("ready", () => host.isReady);
  match(host.readConf("10-calico.conflist")!, /"token": "token-1"/);
  equal(Deno.statSync(path).mode! & 0o777, 0o600);
});

Deno.test("files of our own with a token are for root alone, whatever somebody makes of them", async () => {
  for (
    const [name, extra] of [
      ["10-flannel-kuma.conflist", {}],
      ["zz-kuma.conf", { CHAINED_CNI_PLUGIN: "false", CNI_CONF_NAME: "zz-kuma.conf" }],
    ] as const
  ) {
    await using host = new InstallerHost();
    host.writeConf("10-flannel.conf", primarySingle);
    Deno.chmodSync(`${host.netDir}/10-flannel.conf`, 0o644);
    const agent = host.start({ CNI_NETWORK_CONFIG: withToken, ...extra });
    await agent.until("ready", () => host.isReady);
    const path = `${host.netDir}/${name}`;
    const mode = () => exists(path) ? Deno.statSync(path).mode! & 0o777 : 0;
    equal(mode(), 0o600);
    match(Deno.readTextFileSync(path), /token-1/);
    Deno.chmodSync(path, 0o644);
    await agent.until("private again", () => mode() === 0o600);
    equal(await agent.terminate(), 0);
    equal((await host.run(["uninstall"], extra)).code, 0);
    ok(!exists(path));
  }
});
