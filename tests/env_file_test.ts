/** Settings from a file, and the systemd unit that uses it: an installation by hand. */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { unitText } from "../installer/commands/systemd_unit.ts";
import { parseEnvFile } from "../installer/settings/env_file.ts";
import { exists } from "./support/files.ts";
import { InstallerHost, primaryList } from "./support/installer_host.ts";

const list = "10-calico.conflist";

Deno.test("a file of settings is read as a shell reads it", () => {
  const text = `# for node-1
export CNI_NET_DIR=/etc/cni/net.d   # the usual one
NODE_NAME="node \\"1\\""
  POD_NAME=

CNI_NETWORK_CONFIG='{
  "type": "kuma-cni" # no comment in here
}'
SLEEP=true`;
  deepEqual(Object.fromEntries(parseEnvFile(text, "f")), {
    CNI_NET_DIR: "/etc/cni/net.d",
    NODE_NAME: 'node "1"',
    POD_NAME: "",
    CNI_NETWORK_CONFIG: '{\n  "type": "kuma-cni" # no comment in here\n}',
    SLEEP: "true",
  });
  deepEqual(Object.fromEntries(parseEnvFile(text.replaceAll("\n", "\r\n"), "f")).SLEEP, "true");
  const wrong: [string, RegExp][] = [
    ["\nnothing", /^f:2: Expected NAME=value/],
    ["A B=1", /^f:1: Expected NAME=value/],
    ["\n\nCNI_NETDIR=/x", /^f:3: There is no setting "CNI_NETDIR"; did you mean CNI_NET_DIR\?/],
    ["SLEEP='true", /^f:1: Expected/],
    ["SLEEP=true\nSLEEP=false", /^f:2: SLEEP stands twice/],
    ["SLEEP='a' b", /^f:1: Expected/],
  ];
  for (const [text, expected] of wrong) {
    throws(() => parseEnvFile(text, "f"), { name: "SettingsError", message: expected });
  }
});

Deno.test("installation, check and uninstall with nothing but the file", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const before = host.snapshot();
  const file = `${host.root}/install-cni.env`;
  const environment = host.environment();
  Deno.writeTextFileSync(
    file,
    Object.entries(environment).map(([name, value]) => `${name}='${value}'\n`).join(""),
  );
  // All that the environment has is what the file must not need.
  const none = Object.fromEntries(Object.keys(environment).map((name) => [name, ""]));
  const agent = host.start(none, ["--env-file", file]);
  await agent.until("ready", () => host.isReady);
  const { code, stdout, stderr } = await host.run(
    ["check", "--output", "json", "--env-file", file],
    none,
  );
  equal(code, 0, stderr);
  equal(JSON.parse(stdout).installed, true);
  equal(await agent.terminate(), 0);
  const gone = await host.run(["uninstall", "--env-file", file], none);
  equal(gone.code, 0, gone.stderr);
  deepEqual(host.snapshot(), before);

  const flag = await host.run(["check", "--env-file", file, "--cni-log-level", "loud"], none);
  equal(flag.code, 2, "a flag comes before the file");
  const missing = await host.run(["check", "--env-file", "/nonexistent/file"], none);
  equal(missing.code, 1);
  match(missing.stderr, /^install-cni: Cannot use --env-file: [^\n]*\n$/);
});

Deno.test("the unit starts the program with the file, and systemd understands it", async () => {
  await using host = new InstallerHost();
  const { code, stdout } = await host.run([
    "systemd-unit",
    "--program",
    "/opt/kuma-cni/install-cni",
  ]);
  equal(code, 0);
  equal(stdout, `${unitText("/opt/kuma-cni/install-cni", "/etc/kuma-cni/install-cni.env")}\n`);
  match(stdout, /^ExecStart=\/opt\/kuma-cni\/install-cni --env-file \/etc\/kuma-cni\/install/m);
  match(stdout, /^WantedBy=multi-user\.target$/m);
  equal((await host.run(["systemd-unit", "--program", "/a b"])).code, 1);
  const path = `${host.root}/kuma-cni.service`;
  Deno.writeTextFileSync(path, unitText("/bin/true", "/etc/kuma-cni/install-cni.env"));
  ok(exists(path));
  const verify = await new Deno.Command("systemd-analyze", {
    args: ["verify", "--man=no", path],
    stdin: "null",
  }).output();
  equal(verify.code, 0, new TextDecoder().decode(verify.stderr));
});

Deno.test("files that never end or never come do not hang it, and SIGTERM works", async () => {
  for (
    const variable of ["KUBE_CA_FILE", "KUBE_SERVICE_ACCOUNT_TOKEN_PATH"]
  ) {
    await using host = new InstallerHost();
    host.writeConf(list, primaryList);
    const fifo = `${host.root}/fifo`;
    equal(new Deno.Command("mkfifo", { args: [fifo] }).outputSync().code, 0);
    for (const path of [fifo, "/dev/zero"]) {
      const agent = host.start({ [variable]: path });
      await agent.until(
        "said",
        () => /Waiting for a kubeconfig: .*expected a regular file/.test(agent.stderr),
      );
      const begin = performance.now();
      equal(await agent.terminate(), 0);
      ok(performance.now() - begin < 5000);
    }
  }
  await using host = new InstallerHost();
  const fifo = `${host.root}/fifo`;
  equal(new Deno.Command("mkfifo", { args: [fifo] }).outputSync().code, 0);
  equal((await host.run(["check", "--env-file", fifo])).code, 1);
  // In the net dir, too, in the kubeconfig's place.
  host.writeConf(list, primaryList);
  Deno.renameSync(fifo, `${host.netDir}/ZZZ-kuma-cni-kubeconfig`);
  const agent = host.start();
  await agent.until("said", () => /ZZZ-kuma-cni-kubeconfig": .*; remove it/.test(agent.stderr));
  equal(await agent.terminate(), 0);
});
