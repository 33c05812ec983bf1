/**
 * The installer killed with SIGKILL before each single file operation: afterwards the host must be one
 * that a container runtime can use, and a new start must bring it to the same end.
 */
import { parseKubeconfig } from "../src/kubernetes/kubeconfig.ts";
import { deepEqual, equal, ok } from "node:assert/strict";
import { singleOf, typesOf } from "../installer/conflist/conflist.ts";
import { isConfName } from "../installer/conflist/conf_file.ts";
import { interpreterOf } from "../installer/host/interpreter.ts";
import { byteString, parseText } from "../installer/conflist/json_edit.ts";
import { Operations } from "../installer/host/operations.ts";
import { parseList, singleOfReferenceList } from "./support/conflist_texts.ts";
import { exists } from "./support/files.ts";
import {
  InstallerHost,
  networkConfig,
  primaryList,
  primarySingle,
} from "./support/installer_host.ts";
import { doWork, type Work } from "./support/installer_work.ts";
import "./support/load_libc.ts";
import { loader } from "./support/stand_in_program.ts";

interface Scenario {
  readonly name: string;
  readonly work: Work;
  readonly extra?: Record<string, string>;
  /** Types of the primary's plugins that the runtime must find at every moment. */
  readonly primary: readonly string[];
  /** Makes the host as it is before anything of ours; its state must come back in the end. */
  readonly prepare: (host: InstallerHost) => void | Promise<void>;
  /** What happens between a first installation and the work; without it there is none. */
  readonly meanwhile?: (host: InstallerHost) => void | Promise<void>;
  /** Whether uninstalling cannot restore what `prepare` made, only put it right. */
  readonly repairs?: boolean;
}

const list = "10-calico.conflist";
const standalone = { CHAINED_CNI_PLUGIN: "false", CNI_CONF_NAME: "zz-kuma.conf" };
const chainedPrimary = ["calico", "portmap"];
const withList = (host: InstallerHost) => {
  host.shipLibraries("1");
  host.writeConf(list, primaryList);
  Deno.chmodSync(`${host.netDir}/${list}`, 0o644);
};
const withShim = async (host: InstallerHost) => {
  withList(host);
  await host.shipShim();
};
const withSingle = (host: InstallerHost) => {
  host.shipLibraries("1");
  host.writeConf("10-flannel.conf", primarySingle);
};

const scenarios: readonly Scenario[] = [
  { name: "install into a list", work: "install", primary: chainedPrimary, prepare: withList },
  { name: "install beside a .conf", work: "install", primary: ["flannel"], prepare: withSingle },
  {
    name: "install standalone",
    work: "install",
    extra: standalone,
    primary: chainedPrimary,
    prepare: withList,
  },
  {
    name: "take over from the reference installer",
    work: "install",
    primary: ["flannel"],
    prepare: (host) => {
      withSingle(host);
      host.writeConf(
        "10-flannel.conf",
        JSON.stringify({
          name: "k8s-pod-network",
          cniVersion: "0.3.0",
          plugins: [{ type: "flannel" }, { type: "kuma-cni", log_level: "info" }],
        }),
      );
      Deno.writeTextFileSync(`${host.binDir}/kuma-cni`, "reference", { mode: 0o755 });
      host.writeConf("ZZZ-kuma-cni-kubeconfig", "kind: Config");
      Deno.chmodSync(`${host.netDir}/ZZZ-kuma-cni-kubeconfig`, 0o600);
    },
    repairs: true,
  },
  {
    name: "heal everything",
    work: "install",
    primary: chainedPrimary,
    prepare: withList,
    meanwhile: (host) => {
      host.writeConf(list, primaryList);
      Deno.removeSync(`${host.binDir}/kuma-cni`);
      Deno.removeSync(`${host.netDir}/ZZZ-kuma-cni-kubeconfig`);
      Deno.removeSync(`${host.netDir}/kuma-cni.d`, { recursive: true });
    },
  },
  {
    name: "follow a changed .conf",
    work: "install",
    primary: ["flannel"],
    prepare: withSingle,
    meanwhile: (host) => {
      host.writeConf("10-flannel.conf", primarySingle.replace(" }", ', "mtu": 1400 }'));
    },
    repairs: true,
  },
  {
    name: "refresh the token",
    work: "install",
    primary: chainedPrimary,
    prepare: withList,
    meanwhile: (host) => host.writeSecret("token", "token-2"),
  },
  {
    name: "upgrade plugin, libraries and entry",
    work: "install",
    extra: { CNI_NETWORK_CONFIG: networkConfig.replace('"info"', '"debug"') },
    primary: chainedPrimary,
    prepare: withList,
    meanwhile: (host) => host.shipLibraries("2"),
  },
  { name: "install the shim", work: "install", primary: chainedPrimary, prepare: withShim },
  {
    name: "upgrade to a plugin behind a shim",
    work: "install",
    primary: chainedPrimary,
    prepare: withList,
    meanwhile: async (host) => {
      host.shipLibraries("2");
      await host.shipShim();
    },
  },
  {
    name: "upgrade a plugin behind the shim",
    work: "install",
    primary: chainedPrimary,
    prepare: withShim,
    meanwhile: (host) => host.shipLibraries("2"),
  },
  {
    name: "go back to a plugin without the shim",
    work: "install",
    extra: { SHIM: "false" },
    primary: chainedPrimary,
    prepare: withShim,
    meanwhile: () => {},
  },
  {
    name: "uninstall the shim",
    work: "uninstall",
    primary: chainedPrimary,
    prepare: withShim,
    meanwhile: () => {},
  },
  {
    name: "uninstall from a list",
    work: "uninstall",
    primary: chainedPrimary,
    prepare: withList,
    meanwhile: () => {},
  },
  {
    name: "uninstall beside a .conf",
    work: "uninstall",
    primary: ["flannel"],
    prepare: withSingle,
    meanwhile: () => {},
  },
  {
    name: "uninstall standalone",
    work: "uninstall",
    extra: standalone,
    primary: chainedPrimary,
    prepare: withList,
    meanwhile: () => {},
  },
];

/** Brings a new host to the moment before the work. */
async function prepared(
  scenario: Scenario,
): Promise<{ host: InstallerHost; before: Record<string, string> }> {
  const host = new InstallerHost();
  await scenario.prepare(host);
  const before = host.snapshot();
  if (scenario.meanwhile !== undefined) {
    // The first installation has the plain settings, where the scenario is about changing them.
    const extra = scenario.extra === standalone ? standalone : {};
    equal(await doWork("install", host.settings(extra), new Operations()), undefined);
    await scenario.meanwhile(host);
  }
  return { host, before };
}

/** Asserts that a runtime can use the folders: see law and order of `docs/reliability.md`. */
function assertUsable(host: InstallerHost, scenario: Scenario, when: string): void {
  const names = Array.from(Deno.readDirSync(host.netDir), (e) => e.name).filter(isConfName).sort();
  let first: string[] | undefined;
  for (const name of names) {
    const text = byteString(Deno.readFileSync(`${host.netDir}/${name}`));
    // Until it is put right, the reference installer's own damage is there.
    const isDamage = scenario.repairs === true && !name.endsWith(".conflist") &&
      singleOfReferenceList(text) !== undefined;
    const types = isDamage
      ? [...scenario.primary]
      : name.endsWith(".conflist")
      ? typesOf(parseList(text))
      : [String(JSON.parse(text).type ?? singleOf(parseText(text)))];
    ok(types.length > 0, when);
    first ??= types;
    if (isDamage || !types.includes("kuma-cni")) continue;
    assertPlugin(host, when);
    const path = JSON.parse(text).kubernetes?.kubeconfig ??
      JSON.parse(text).plugins.at(-1).kubernetes.kubeconfig;
    const kubeconfig = `${host.netDir}/${path.slice(path.lastIndexOf("/") + 1)}`;
    equal(Deno.statSync(kubeconfig).mode! & 0o7777, 0o600, when);
    ok(parseKubeconfig(Deno.readTextFileSync(kubeconfig), kubeconfig).token, when);
  }
  deepEqual(first?.filter((type) => type !== "kuma-cni"), scenario.primary, when);
}

/** Asserts that the plugin is whole, executable, and has the libraries that it names. */
function assertPlugin(host: InstallerHost, when: string): void {
  ok(Deno.statSync(`${host.binDir}/kuma-cni`).mode! & 0o100, when);
  const path = host.pluginPath()!;
  ok(Deno.statSync(path).mode! & 0o100, when);
  const bytes = Deno.readFileSync(path);
  if (bytes[0] !== 0x7f) return;
  const version = /of version (\d)$/.exec(new TextDecoder().decode(bytes))?.[1];
  const interpreter = interpreterOf((offset, length) => bytes.subarray(offset, offset + length));
  equal(interpreter, `/opt/cni/bin/kuma-cni.d/${version}/ld-linux-x86-64.so.2`, when);
  const libraries = `${host.binDir}/kuma-cni.d/${version}`;
  deepEqual(Deno.readFileSync(`${libraries}/ld-linux-x86-64.so.2`), loader(version!), when);
  equal(Deno.readTextFileSync(`${libraries}/libc.so.6`), `libc.so.6 of version ${version}`, when);
}

/** Does the work in a process that kills itself before an operation. */
async function doKilled(host: InstallerHost, scenario: Scenario, killAt: number): Promise<void> {
  const script = new URL("support/installer_work.ts", import.meta.url).pathname;
  const { signal, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "-A",
      script,
      scenario.work,
      String(killAt),
      JSON.stringify(host.environment(scenario.extra)),
    ],
    stdin: "null",
  }).output();
  equal(signal, "SIGKILL", new TextDecoder().decode(stderr));
}

async function killAndRecover(scenario: Scenario, killAt: number): Promise<void> {
  const { host, before } = await prepared(scenario);
  await using _ = host;
  const when = `${scenario.name}, killed before operation ${killAt}`;
  const settings = host.settings(scenario.extra);
  await doKilled(host, scenario, killAt);
  assertUsable(host, scenario, when);
  equal(await doWork(scenario.work, settings, new Operations()), undefined, when);
  if (scenario.work === "install") {
    assertUsable(host, scenario, when);
    assertPlugin(host, when);
    const leftovers = Object.keys(host.snapshot()).filter((name) => /\/\./.test(name));
    deepEqual(leftovers, [], when);
    await doWork("uninstall", settings, new Operations());
  }
  assertUsable(host, scenario, when);
  ok(!exists(`${host.binDir}/kuma-cni`), when);
  if (!scenario.repairs) deepEqual(host.snapshot(), before, when);
}

for (const scenario of scenarios) {
  Deno.test(`killed at every operation: ${scenario.name}`, async () => {
    let count = 0;
    {
      const { host } = await prepared(scenario);
      await using _ = host;
      const operations = new Operations(({ changes }) => {
        if (changes) count++;
      });
      const problem = await doWork(scenario.work, host.settings(scenario.extra), operations);
      equal(problem, undefined);
      ok(count > 5, `${count} operations`);
    }
    const next = Array.from({ length: count }, (_, i) => i + 1);
    // Both workers come to their end, also when one has failed, so that their hosts are removed.
    const results = await Promise.allSettled([0, 1].map(async () => {
      for (let at = next.shift(); at !== undefined; at = next.shift()) {
        await killAndRecover(scenario, at);
      }
    }));
    for (const result of results) if (result.status === "rejected") throw result.reason;
  });
}
