/** The runtimes as install-cni reckons with them: what they load, what is called through it. */
import { deepEqual, equal, match } from "node:assert/strict";
import { type ConfFile, isConfName } from "../installer/conflist/conf_file.ts";
import { obstacleOf } from "../installer/runtime/capture.ts";
import type { ConfigReader } from "../installer/runtime/config_reader.ts";
import { detectRuntime } from "../installer/runtime/detect_runtime.ts";
import { load } from "../installer/runtime/load.ts";
import type { NetDir, Network } from "../installer/runtime/network.ts";
import { assumedRuntime, type Runtime } from "../installer/runtime/runtime.ts";
import { type Called, presentPrograms, runtimeCases } from "./support/runtime_cases.ts";

function netDir(files: Readonly<Record<string, string>>): NetDir {
  const folders = new Map<string, ConfFile[]>();
  const own: ConfFile[] = [];
  for (const path of Object.keys(files).sort()) {
    const [folder, name] = path.includes("/") ? path.split("/") as [string, string] : ["", path];
    if (folder === "") {
      if (isConfName(name)) own.push({ name, text: files[path]! });
    } else if (name.endsWith(".conf")) {
      folders.set(folder, [...folders.get(folder) ?? [], { name, text: files[path]! }]);
    }
  }
  return { files: own, folders, hasProgram: (type) => presentPrograms.includes(type) };
}

const containerd = assumedRuntime("containerd", "test", true);
const crio = assumedRuntime("cri-o", "test", true);
const calledIn = ({ file, types }: Network): Called => [file, ...types];

for (const wanted of runtimeCases) {
  Deno.test(`loaded as the real library does: ${wanted.name}`, () => {
    const dir = netDir(wanted.files);
    const { maxConfNum = 1, defaultNetwork = "" } = wanted;
    const forContainerd = load({ ...containerd, maxConfNum }, dir);
    deepEqual(
      forContainerd.problem === undefined ? forContainerd.networks.map(calledIn) : null,
      wanted.containerd,
    );
    const [forCrio] = load({ ...crio, defaultNetwork }, dir).networks;
    deepEqual(forCrio === undefined ? null : calledIn(forCrio), wanted.crio);
  });
}

const list = (name: string, ...types: string[]) =>
  JSON.stringify({ cniVersion: "1.0.0", name, plugins: types.map((type) => ({ type })) });
const multus = (extra: Record<string, unknown>, type = "multus") =>
  JSON.stringify({ cniVersion: "1.0.0", name: "multus", type, ...extra });
const chained = "10-a.conflist";
const ours = { [chained]: list("net-a", "a", "kuma-cni") };

/** What keeps pods from being captured; `undefined`: nothing. */
const captures: readonly [
  name: string,
  runtime: Runtime,
  files: Record<string, string>,
  obstacle: RegExp | undefined,
][] = [
  ["containerd, chained first", containerd, ours, undefined],
  [
    "containerd, another file first",
    containerd,
    { ...ours, "05-b.conflist": list("b", "b") },
    /^The runtime loads "05-b.conflist" before "10-a.conflist", so pods are not captured; set CNI/,
  ],
  [
    "containerd, another file first, which calls us too",
    containerd,
    { ...ours, "05-b.conflist": list("b", "b", "kuma-cni") },
    undefined,
  ],
  [
    "containerd, a torn file first",
    containerd,
    { ...ours, "05-b.conflist": "{" },
    /^containerd loads no file at all, since it cannot read "05-b.conflist": /,
  ],
  [
    "containerd, an entry of ours that libcni refuses",
    containerd,
    { [chained]: ours[chained].replace('"kuma-cni"', '"kuma-cni","capabilities":{"dns":1}') },
    /cannot read "10-a.conflist": Expected true or false at 'plugins\[1\].capabilities.dns', found 1, so pods are not/,
  ],
  ["containerd, a torn file behind", containerd, { ...ours, "15-b.conflist": "{" }, undefined],
  [
    "containerd that loads all, a torn file behind",
    { ...containerd, maxConfNum: 0 },
    { ...ours, "15-b.conflist": "{" },
    /^containerd loads no file at all, since it cannot read "15-b.conflist": /,
  ],
  [
    "containerd that loads all, another network behind",
    { ...containerd, maxConfNum: 0 },
    { ...ours, "15-b.conflist": list("b", "b") },
    undefined,
  ],
  [
    "containerd that loads all, our entry in two files",
    { ...containerd, maxConfNum: 0 },
    { ...ours, "15-b.conflist": list("b", "b", "kuma-cni") },
    /^containerd calls the plugin 2 times for each pod, through "10-a.conflist", "15-b.conflist"/,
  ],
  [
    "our entry twice in the file, spelled differently",
    containerd,
    {
      [chained]:
        '{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"},{"Type":"kuma-cni"},{"type":"kuma-cni"}]}',
    },
    /calls the plugin 2 times/,
  ],
  ["CRI-O, a torn file first", crio, { ...ours, "05-b.conflist": "{" }, undefined],
  [
    "CRI-O, a file with a missing program first",
    crio,
    { ...ours, "05-b.conflist": list("b", "gone") },
    undefined,
  ],
  [
    "CRI-O, the chained file has a missing program",
    crio,
    { [chained]: list("net-a", "gone", "kuma-cni"), "20-b.conflist": list("b", "b") },
    /^CRI-O uses "20-b.conflist", and passes over "10-a.conflist": The program of its plugin "gone"/,
  ],
  [
    "CRI-O, no file can be used",
    crio,
    { [chained]: list("net-a", "gone", "kuma-cni") },
    /^CRI-O finds no network configuration, so pods are not captured/,
  ],
  [
    "CRI-O, another network is the default one",
    { ...crio, defaultNetwork: "net-b" },
    { ...ours, "20-b.conflist": list("net-b", "b") },
    /^CRI-O uses "20-b.conflist" \(cni_default_network is "net-b"\), so pods are not captured/,
  ],
  [
    "CRI-O, the chained network is the default one although not the first",
    { ...crio, defaultNetwork: "net-a" },
    { ...ours, "05-b.conflist": list("net-b", "b") },
    undefined,
  ],
  [
    "CRI-O, the default network is missing",
    { ...crio, defaultNetwork: "net-x" },
    ours,
    /^CRI-O uses the network "net-x" \(cni_default_network\), and no usable file has that name/,
  ],
  [
    "Multus names the chained file",
    containerd,
    { ...ours, "00-multus.conf": multus({ clusterNetwork: "/etc/cni/net.d/10-a.conflist" }) },
    undefined,
  ],
  [
    "Multus names the chained file through its own mount, keys in other case",
    containerd,
    {
      ...ours,
      "00-multus.conf": multus({ ClusterNetwork: "/host/etc/cni/net.d/10-a.conflist" }),
    },
    undefined,
  ],
  [
    "Multus names another file",
    containerd,
    {
      ...ours,
      "20-b.conflist": list("b", "b"),
      "00-multus.conf": multus({ clusterNetwork: "/etc/cni/net.d/20-b.conflist" }),
    },
    /^"00-multus.conf" of Multus calls "20-b.conflist" \(clusterNetwork\), not "10-a.conflist"/,
  ],
  [
    "Multus names a file of another folder",
    containerd,
    {
      ...ours,
      "00-multus.conf": multus({ clusterNetwork: "/etc/cni/multus/net.d/10-a.conflist" }),
    },
    /not in the net dir "\/etc\/cni\/net.d"/,
  ],
  [
    "Multus names a file that is gone",
    containerd,
    { ...ours, "00-multus.conf": multus({ clusterNetwork: "/etc/cni/net.d/11-a.conflist" }) },
    /'clusterNetwork' "\/etc\/cni\/net.d\/11-a.conflist" is not there/,
  ],
  [
    "Multus names a network",
    containerd,
    { ...ours, "00-multus.conf": multus({ clusterNetwork: "net-a" }) },
    /'clusterNetwork' is the name "net-a".*CNI_CONF_NAME_IS_LOADED/,
  ],
  [
    "Multus has a copy of the primary without our entry",
    containerd,
    { ...ours, "00-multus.conf": multus({ delegates: [JSON.parse(list("net-a", "a"))] }) },
    /^"00-multus.conf" of Multus has a copy of another configuration in 'delegates', without our/,
  ],
  [
    "Multus has a copy of a single plugin",
    crio,
    { ...ours, "00-multus.conf": multus({ delegates: [{ type: "a", name: "net-a" }] }) },
    /in 'delegates', without our entry/,
  ],
  [
    "Multus has a copy with our entry",
    crio,
    {
      ...ours,
      "00-multus.conf": multus({ delegates: [JSON.parse(list("net-a", "a", "kuma-cni"))] }),
    },
    undefined,
  ],
  [
    "clusterNetwork wins over delegates",
    containerd,
    {
      ...ours,
      "00-multus.conf": multus({
        clusterNetwork: "/etc/cni/net.d/10-a.conflist",
        delegates: [{ type: "a" }],
      }),
    },
    undefined,
  ],
  [
    "Multus with neither",
    containerd,
    { ...ours, "00-multus.conf": multus({}, "multus-shim") },
    /neither 'clusterNetwork' nor 'delegates', so what Multus calls is not known/,
  ],
  [
    "CNI-Genie in front",
    containerd,
    { ...ours, "00-genie.conf": multus({}, "genie") },
    /^"00-genie.conf" comes first, and what CNI-Genie calls is up to its own settings/,
  ],
  [
    "Multus behind the chained file is not in use",
    containerd,
    { ...ours, "90-multus.conf": multus({ delegates: [{ type: "a" }] }) },
    undefined,
  ],
  [
    "Multus is declared, and its file is elsewhere",
    assumedRuntime("multus", "test", true),
    { ...ours, "05-b.conflist": list("b", "b") },
    undefined,
  ],
  [
    "Multus is declared, and its file contradicts",
    assumedRuntime("multus", "test", true),
    { ...ours, "50-multus.conf": multus({ delegates: [{ type: "a" }] }) },
    /without our entry/,
  ],
];

for (const [name, runtime, files, obstacle] of captures) {
  Deno.test(`captured or not: ${name}`, () => {
    const actual = obstacleOf(runtime, netDir(files), chained, "/etc/cni/net.d");
    if (obstacle === undefined) equal(actual, undefined);
    else match(actual ?? "nothing", obstacle);
  });
}

/** Reads a host that is a record of files and sockets. */
function readerOf(host: Readonly<Record<string, string>>): ConfigReader {
  const paths = Object.keys(host);
  return {
    read: (path) => host[path],
    list: (path) => {
      const below = paths.filter((other) => other.startsWith(`${path}/`))
        .map((other) => other.slice(path.length + 1).split("/")[0]!);
      return below.length === 0 ? undefined : [...new Set(below)].sort();
    },
    exists: (path) => paths.some((other) => other === path || other.startsWith(`${path}/`)),
  };
}

const version2 = `version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/home/kubernetes/bin"
  conf_dir = "/etc/cni/net.d/"
  max_conf_num = 0
`;

/** What the host shows of its runtime. */
const hosts: readonly [
  name: string,
  host: Record<string, string>,
  wanted: Partial<Runtime>,
  warning?: RegExp,
][] = [
  ["nothing is seen", {}, { kind: "containerd", isCertain: false, maxConfNum: 1 }],
  [
    "containerd, version 2",
    { "/etc/containerd/config.toml": version2 },
    {
      kind: "containerd",
      isCertain: true,
      basis: "/etc/containerd/config.toml",
      confDir: "/etc/cni/net.d",
      programDirs: ["/home/kubernetes/bin"],
      maxConfNum: 0,
    },
  ],
  [
    "containerd, version 3",
    {
      "/etc/containerd/config.toml": `version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/local/libexec/cni", "/opt/cni/bin/"]
`,
    },
    {
      confDir: "/etc/cni/net.d",
      programDirs: ["/usr/local/libexec/cni", "/opt/cni/bin"],
      maxConfNum: 1,
    },
  ],
  [
    "containerd, version 1",
    { "/etc/containerd/config.toml": `[plugins.cri.cni]\nconf_dir = "/x"\n` },
    { confDir: "/x", programDirs: ["/opt/cni/bin"] },
  ],
  [
    "containerd, imports by a pattern and from imports, version 3",
    {
      "/etc/containerd/config.toml": `version = 3\nimports = ["conf.d/*.toml"]\n` +
        `[plugins."io.containerd.cri.v1.runtime".cni]\nconf_dir = "/x"\n`,
      "/etc/containerd/conf.d/10-a.toml": `version = 3\nimports = ["/etc/more.toml"]\n`,
      "/etc/containerd/conf.d/20-b.txt": `version = 3\nroot = `,
      "/etc/more.toml":
        `version = 3\n[plugins."io.containerd.cri.v1.runtime".cni]\nmax_conf_num = 3\n`,
    },
    { confDir: "/x", maxConfNum: 3 },
  ],
  [
    "containerd, an import that means something else to 1.x",
    {
      "/etc/containerd/config.toml": `imports = ["more.toml"]\n${version2}`,
      "/etc/containerd/more.toml": `version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
cni_conf_dir = "/etc/kata/net.d"
`,
    },
    { maxConfNum: 0 },
    /mean other CNI settings to containerd 1.x than to 2.x/,
  ],
  [
    "containerd, a runtime class with a folder of its own",
    {
      "/etc/containerd/config.toml": `version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
cni_conf_dir = "/etc/kata/net.d"
`,
    },
    { confDir: "/etc/cni/net.d" },
    /handler "kata" are not captured: containerd reads "\/etc\/kata\/net.d"/,
  ],
  [
    "containerd whose configuration is no TOML",
    { "/etc/containerd/config.toml": "version = " },
    { kind: "containerd", confDir: "/etc/cni/net.d" },
    /^Cannot read "\/etc\/containerd\/config.toml" of containerd: /,
  ],
  [
    "containerd with defaults, known by its socket",
    { "/run/containerd/containerd.sock": "" },
    { kind: "containerd", isCertain: true, basis: "/run/containerd/containerd.sock" },
  ],
  [
    "k3s",
    {
      "/var/lib/rancher/k3s/agent/etc/containerd/config.toml": `version = 3
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/var/lib/rancher/k3s/data/cni"]
conf_dir = "/var/lib/rancher/k3s/agent/etc/cni/net.d"
`,
      "/run/k3s/containerd/containerd.sock": "",
      "/etc/containerd/config.toml": version2,
    },
    {
      confDir: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
      programDirs: ["/var/lib/rancher/k3s/data/cni"],
    },
  ],
  [
    "CRI-O with drop-ins, the later wins key by key",
    {
      "/etc/crio/crio.conf":
        `[crio.network]\ncni_default_network = "x"\nplugin_dir = "/usr/libexec/cni"\n`,
      "/etc/crio/crio.conf.d/10-a.conf": `[crio.network]\nnetwork_dir = "/a/"\n`,
      "/etc/crio/crio.conf.d/20-b/old.bak":
        `[crio.network]\nnetwork_dir = "/b/"\nplugin_dirs = ["/p/"]\n`,
    },
    {
      kind: "cri-o",
      isCertain: true,
      defaultNetwork: "x",
      confDir: "/b",
      programDirs: ["/p", "/usr/libexec/cni"],
    },
  ],
  [
    "CRI-O beside Docker's containerd",
    {
      "/etc/crio/crio.conf.d/10-crio.conf": "",
      "/etc/containerd/config.toml": `disabled_plugins = ["cri"]\n`,
      "/run/containerd/containerd.sock": "",
    },
    { kind: "cri-o", isCertain: true, warnings: [] },
  ],
  [
    "CRI-O's old configuration beside a running containerd",
    { "/etc/crio/crio.conf": "", "/run/containerd/containerd.sock": "" },
    { kind: "containerd", isCertain: true },
  ],
  [
    "both, and nothing tells which",
    { "/etc/crio/crio.conf": "", "/etc/containerd/config.toml": "version = 2" },
    { kind: "cri-o", isCertain: false },
    /set CNI_RUNTIME to say which/,
  ],
];

for (const [name, host, wanted, warning] of hosts) {
  Deno.test(`which runtime: ${name}`, () => {
    const actual = detectRuntime("auto", "/etc/cni/net.d", readerOf(host));
    const picked = Object.fromEntries(
      Object.keys(wanted).map((key) => [key, actual[key as keyof Runtime]]),
    );
    deepEqual(picked, wanted);
    if (warning !== undefined) match(actual.warnings.join("\n"), warning);
  });
}

Deno.test("the administrator's word wins over what is seen", () => {
  const host = readerOf({
    "/etc/containerd/config.toml": version2,
    "/run/containerd/containerd.sock": "",
    "/etc/crio/crio.conf": `[crio.network]\ncni_default_network = "x"\n`,
  });
  const stated = (kind: "containerd" | "cri-o" | "multus") =>
    detectRuntime(kind, "/etc/cni/net.d", host);
  deepEqual([stated("cri-o").kind, stated("cri-o").defaultNetwork], ["cri-o", "x"]);
  deepEqual([stated("containerd").kind, stated("containerd").maxConfNum], ["containerd", 0]);
  deepEqual([stated("multus").kind, stated("multus").confDir], ["multus", undefined]);
  equal(detectRuntime("cri-o", "/etc/cni/net.d", readerOf({})).isCertain, true);
});
