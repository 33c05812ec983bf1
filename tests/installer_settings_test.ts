/** What install-cni refuses before it touches a host: settings that its own plugin could not use. */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { declarations } from "../installer/settings/declarations.ts";
import { pathsOf } from "../installer/settings/paths.ts";
import { warningsOfEntry } from "../installer/settings/plugin_entry.ts";
import { problemOfAuthority } from "../installer/plan/certificate_authority.ts";
import { parseSettings, SettingsError } from "../installer/settings/settings.ts";
import { serverOf } from "../installer/settings/api_server.ts";
import { exists } from "./support/files.ts";
import { authority, InstallerHost, primaryList } from "./support/installer_host.ts";

const list = "10-calico.conflist";
const kubeconfig = "ZZZ-kuma-cni-kubeconfig";

/** A network configuration with these keys. */
function configWith(entry: Record<string, unknown>): string {
  return JSON.stringify({
    type: "kuma-cni",
    kubernetes: { kubeconfig: "__KUBECONFIG_FILEPATH__" },
    ...entry,
  });
}

function settingsWith(extra: Record<string, string>) {
  const environment: Record<string, string> = { CNI_NETWORK_CONFIG: configWith({}), ...extra };
  return parseSettings(({ variable }) => environment[variable]);
}

Deno.test("what the plugin would refuse is refused, in one line that names the key", () => {
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ log_level: "warn" }, /"log_level" must be one of "off", "info", "debug"/],
    [{ engine: "nft" }, /"engine" must be one of "auto", "nftables", "iptables"/],
    [{ kubernetes: { exclude_namespaces: "kube-system" } }, /must be an array of strings/],
    [{ kubernetes: { kubeconfig: "kubeconfig" } }, /"kubernetes.kubeconfig" must be an absolute/],
    [{ kubernetes: { cni_bin_dir: "bin" } }, /"kubernetes.cni_bin_dir" must be an absolute path/],
    [{ kubernetes: "x" }, /"kubernetes" must be an object/],
    [{ agent: { socket: 1 } }, /"agent.socket" must be an absolute path/],
    [{ lookup_timeout_seconds: 0 }, /"lookup_timeout_seconds" must be a number above 0/],
    [{ name: 7 }, /Expected a string at 'name', found 7/],
    // What libcni would refuse, and the whole list with it.
    [{ capabilities: "dns" }, /Expected an object at 'capabilities', found "dns"/],
    [{ capabilities: { dns: "yes" } }, /Expected true or false at 'capabilities.dns', found "yes"/],
    [{ dns: { Search: ["a", 5] } }, /Expected a string at 'dns.Search\[1\]', found 5/],
    [{ IPAM: [] }, /Expected an object at 'IPAM', found an array/],
  ];
  for (const [entry, expected] of wrong) {
    throws(
      () => settingsWith({ CNI_NETWORK_CONFIG: configWith(entry) }),
      (error) => {
        ok(error instanceof SettingsError);
        equal(error.exitCode, 1);
        match(error.message, /^CNI_NETWORK_CONFIG is /);
        match(error.message, expected);
        ok(!error.message.includes("\n"));
        return true;
      },
    );
  }
});

Deno.test("where nothing is set, it is said where an installation has its settings", () => {
  throws(
    () => parseSettings(() => undefined),
    /^SettingsError: CNI_NETWORK_CONFIG is not set, expected a JSON object .*; .* --env-file names$/,
  );
});

Deno.test("a network of its own needs a version that the plugin speaks, a chained entry does not", () => {
  const config = configWith({ cniVersion: "1.0.1", name: "n" });
  settingsWith({ CNI_NETWORK_CONFIG: config });
  throws(
    () => settingsWith({ CNI_NETWORK_CONFIG: config, CHAINED_CNI_PLUGIN: "false" }),
    /"cniVersion" is "1.0.1", expected one of 0\.1\.0, /,
  );
});

Deno.test("a wrong network configuration keeps nobody from uninstalling", () => {
  const environment: Record<string, string> = {
    CNI_NETWORK_CONFIG: configWith({ engine: "nft" }),
  };
  const read = ({ variable }: { variable: string }) => environment[variable];
  const settings = parseSettings(read, { needsConfig: false });
  equal(settings.networkConfig, "");
  equal(pathsOf(settings).hostBinDir, "/opt/cni/bin");
});

Deno.test("keys without effect are told, with the one that is probably meant", () => {
  const warningsOf = (entry: Record<string, unknown>) =>
    warningsOfEntry(settingsWith({ CNI_NETWORK_CONFIG: configWith(entry) }));
  deepEqual(warningsOf({ name: "n", cniVersion: "0.3.1", log_level: "debug" }), []);
  deepEqual(warningsOf({ logLevel: "debug", kolibri: 1 }), [
    'CNI_NETWORK_CONFIG: the key "logLevel" has no effect; did you mean "log_level"?',
    'CNI_NETWORK_CONFIG: the key "kolibri" has no effect',
  ]);
  match(warningsOf({ kubernetes: {} })[0]!, /"kubernetes.kubeconfig" is not set/);
});

Deno.test("the address of the API server is one that a URL can have", () => {
  const server = (KUBERNETES_SERVICE_HOST: string, rest: Record<string, string> = {}) =>
    serverOf(settingsWith({ KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT: "443", ...rest }));
  equal(server("10.96.0.1"), "https://10.96.0.1:443");
  equal(server("kubernetes.default.svc"), "https://kubernetes.default.svc:443");
  equal(server("fd00::1"), "https://[fd00::1]:443");
  equal(server("[fd00::1]"), "https://[fd00::1]:443");
  equal(server("a", { KUBERNETES_SERVICE_PROTOCOL: "http" }), "http://a:443");
  for (
    const host of ["[10.96.0.1]", "[[fd00::1]]", "fd00::1]", "fd00:::1", "a b", "a/b", "999.1.1.1"]
  ) {
    throws(() => server(host), /^SettingsError: KUBERNETES_SERVICE_HOST is .*host name or an IP/);
  }
  for (const port of ["abc", "0", "65536", "443/tcp", "-1"]) {
    throws(() => server("a", { KUBERNETES_SERVICE_PORT: port }), /KUBERNETES_SERVICE_PORT is/);
  }
  throws(() => server("a", { KUBERNETES_SERVICE_PROTOCOL: "ftp" }), /expected https or http/);
  // All declared, so that --help and the documents say the same.
  equal(declarations.apiPort.kind, "serverPort");
});

Deno.test("a bad setting ends a new install-cni, and the good entry of a running node stays", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const first = host.start();
  await first.until("ready", () => host.isReady);
  equal(await first.terminate(), 0);
  const before = host.snapshot();
  for (const entry of [{ log_level: "warn" }, { engine: "nft" }]) {
    const { code, stderr } = await host.run([], { CNI_NETWORK_CONFIG: configWith(entry) });
    equal(code, 1, stderr);
    match(stderr, /^install-cni: CNI_NETWORK_CONFIG is [^\n]*must be one of[^\n]*\n$/);
  }
  deepEqual(host.snapshot(), before);
  const { code, stdout } = await host.run(["check", "--output", "json"]);
  equal(code, 0, stdout);
});

Deno.test("what is garbled between the marks of PEM is seen", () => {
  equal(problemOfAuthority(authority), undefined);
  equal(problemOfAuthority(`# a comment\n${authority}\n${authority}`), undefined);
  const garbled: Record<string, string> = {
    "it holds no certificate in PEM": "garbage",
    "a certificate in it is cut off or garbled": authority.slice(0, 300),
    "certificate 1 of 1 in it is garbled": authority.replace(/\n[^\n]{64}\n/, "\n"),
    "certificate 2 of 2 in it is garbled": authority + authority.replace("MIIBdD", "MIIBdE"),
  };
  for (const [problem, text] of Object.entries(garbled)) equal(problemOfAuthority(text), problem);
  match(problemOfAuthority(authority.replace("MIIB", "MI!B"))!, /garbled/);
  match(problemOfAuthority(authority.replace(/MII[^-]*/, "AAAA\n"))!, /garbled/);
});

Deno.test("a garbled authority never replaces a good kubeconfig", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  const good = host.readConf(kubeconfig);
  host.writeSecret("ca.crt", authority.slice(0, 300));
  host.writeSecret("token", "token-2");
  await agent.until("told", () => agent.stderr.includes("The kubeconfig is not refreshed"));
  equal(host.readConf(kubeconfig), good);
  ok(host.isReady, "the old kubeconfig still works");
  // Many looks later it was told once, not at each of them.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  equal(agent.stderr.match(/WARN.*The kubeconfig is not refreshed/g)?.length, 1, agent.stderr);
  host.writeSecret("ca.crt", authority);
  await agent.until("fresh", () => host.readConf(kubeconfig)!.includes('"token": "token-2"'));
  await agent.until("over", () => agent.stderr.includes("Over: The kubeconfig is not refreshed"));
  equal(await agent.terminate(), 0);
});

Deno.test("a token that the plugin would find too long never replaces a good kubeconfig", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  const good = host.readConf(kubeconfig);
  host.writeSecret("token", "a".repeat(1024 * 1024));
  await agent.until("told", () => /not refreshed: .*reads at most 1048576/.test(agent.stderr));
  equal(host.readConf(kubeconfig), good);
  ok(host.isReady, "the old kubeconfig still works");
  equal(await agent.terminate(), 0);
});

Deno.test("with a garbled authority from the start it waits, and says for what", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  host.writeSecret("ca.crt", authority.slice(0, 300));
  const agent = host.start();
  await agent.until("said", () => /ca\.crt" cannot be used: .*cut off/.test(agent.stderr));
  ok(!exists(`${host.netDir}/${kubeconfig}`) && !host.isReady);
  host.writeSecret("ca.crt", authority);
  await agent.until("ready", () => host.isReady);
});
