/**
 * What containerd and CRI-O make of a net dir: each line was checked with the real libraries
 * (go-cni 1.1.13 and ocicni 0.4.3 on libcni 1.3.0).
 */

/** One net dir. */
export interface RuntimeCase {
  readonly name: string;
  /** Content by file name; `folder/name.conf` for files of a list's own folder. */
  readonly files: Readonly<Record<string, string>>;
  /** containerd's max_conf_num; 1 unless given. */
  readonly maxConfNum?: number;
  /** CRI-O's cni_default_network. */
  readonly defaultNetwork?: string;
  /** Files whose networks each pod gets, with the types that are called; `null`: no network at all. */
  readonly containerd: readonly Called[] | null;
  readonly crio: Called | null;
}

/** A file, and the plugins that are called through it. */
export type Called = readonly [file: string, ...types: string[]];

/** Plugins whose programs are on the host; all others are missing. */
export const presentPrograms = ["a", "b", "c", "kuma-cni", "multus"];

const list = (name: string, ...types: string[]) =>
  JSON.stringify({ cniVersion: "1.0.0", name, plugins: types.map((type) => ({ type })) });
const single = (name: string, type: string) => JSON.stringify({ cniVersion: "1.0.0", name, type });

/** All net dirs. */
export const runtimeCases: readonly RuntimeCase[] = [
  {
    name: "the first file in the order of bytes counts, whatever its ending",
    files: {
      "10-b.conflist": list("b", "b"),
      "10-a.json": single("a", "a"),
      "9-c.conf": single("c", "c"),
    },
    containerd: [["10-a.json", "a"]],
    crio: ["10-a.json", "a"],
  },
  {
    name: "other endings and names in capitals are not looked at",
    files: {
      "00-a.CONF": single("a", "a"),
      "01-a.conf.bak": single("a", "a"),
      "10-b.conf": single("b", "b"),
    },
    containerd: [["10-b.conf", "b"]],
    crio: ["10-b.conf", "b"],
  },
  {
    name: "a file that cannot be parsed stops containerd, and is passed over by CRI-O",
    files: { "05-a.conflist": '{"name": "a", "plugins": [', "10-b.conflist": list("b", "b") },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  },
  ...[
    '{"type":"kuma-cni","capabilities":"dns"}',
    '{"type":"kuma-cni","Capabilities":{"dns":"yes"}}',
    '{"type":"kuma-cni","ipam":{"type":5}}',
    '{"type":"kuma-cni","dns":{"options":[5]}}',
    '{"type":"kuma-cni","prevResult":[]}',
    '{"type":"kuma-cni","name":5,"Name":"x"}',
    '{"type":"kuma-cni","any":1e999}',
  ].map((plugin): RuntimeCase => ({
    name: `a plugin with a value that libcni cannot read counts as unparsable: ${plugin}`,
    files: {
      "05-a.conflist": `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"a"},${plugin}]}`,
      "10-b.conflist": list("b", "b"),
    },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  })),
  {
    name: "values that libcni does not read itself may be anything",
    files: {
      "05-a.conflist": '{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"a","capabilities":' +
        '{"x":null},"dns":null,"args":5,"ipMasq":"x"}]}',
    },
    containerd: [["05-a.conflist", "a"]],
    crio: ["05-a.conflist", "a"],
  },
  {
    name: "a list in a .conf has no type",
    files: { "05-a.conf": list("a", "a"), "10-b.conflist": list("b", "b") },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "a plugin in a .conflist is a list without plugins",
    files: { "05-a.conflist": single("a", "a"), "10-b.conflist": list("b", "b") },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "CRI-O passes over a file with a plugin whose program is missing",
    files: { "05-a.conflist": list("a", "a", "gone"), "10-b.conflist": list("b", "b") },
    containerd: [["05-a.conflist", "a", "gone"]],
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "CRI-O passes over a version that a plugin does not speak",
    files: {
      "05-a.conflist": list("a", "a", "kuma-cni").replace("1.0.0", "1.0.1"),
      "10-b.conflist": list("b", "b"),
    },
    containerd: [["05-a.conflist", "a", "kuma-cni"]],
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "CRI-O's default network goes by its name",
    files: {
      "05-a.conflist": list("net-a", "a"),
      "10-b.conflist": list("net-b", "b"),
      "20-c.conflist": list("net-b", "c"),
    },
    defaultNetwork: "net-b",
    containerd: [["05-a.conflist", "a"]],
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "CRI-O's default network that no file has",
    files: { "05-a.conflist": list("net-a", "a") },
    defaultNetwork: "net-b",
    containerd: [["05-a.conflist", "a"]],
    crio: null,
  },
  {
    name: "CRI-O takes the file's name for a network without a name",
    files: { "05-a.conf": JSON.stringify({ cniVersion: "1.0.0", type: "a" }) },
    defaultNetwork: "05-a.conf",
    containerd: [["05-a.conf", "a"]],
    crio: ["05-a.conf", "a"],
  },
  {
    name: "max_conf_num 0 loads all, a list beside a single file is one more network",
    files: {
      "10-a-kuma.conflist": list("a", "a", "kuma-cni"),
      "10-a.conf": single("a", "a"),
    },
    maxConfNum: 0,
    containerd: [["10-a-kuma.conflist", "a", "kuma-cni"], ["10-a.conf", "a"]],
    crio: ["10-a-kuma.conflist", "a", "kuma-cni"],
  },
  {
    name: "max_conf_num 2 loads two",
    files: {
      "10-a.conf": single("a", "a"),
      "20-b.conf": single("b", "b"),
      "30-c.conf": single("c", "c"),
    },
    maxConfNum: 2,
    containerd: [["10-a.conf", "a"], ["20-b.conf", "b"]],
    crio: ["10-a.conf", "a"],
  },
  {
    name: "keys of a plugin match without regard to case",
    files: {
      "10-a.conflist":
        '{"cniVersion":"1.0.0","name":"a","plugins":[{"Type":"a"},{"TYPE":"kuma-cni"}]}',
    },
    containerd: [["10-a.conflist", "a", "kuma-cni"]],
    crio: ["10-a.conflist", "a", "kuma-cni"],
  },
  {
    name: "of a plugin's keys in several cases the last in the order of bytes wins",
    files: {
      "10-a.conflist":
        '{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"a","Type":"gone","TYPE":"gone"}]}',
    },
    containerd: [["10-a.conflist", "a"]],
    crio: ["10-a.conflist", "a"],
  },
  {
    name: "of doubled keys the last one wins",
    files: {
      "10-a.conflist":
        '{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"gone"}],"plugins":[{"type":"gone","type":"a"}]}',
    },
    containerd: [["10-a.conflist", "a"]],
    crio: ["10-a.conflist", "a"],
  },
  {
    name: "null leaves a plugin's field alone",
    files: {
      "10-a.conflist": '{"cniVersion":"1.0.0","name":"a","plugins":[{"Type":"a","type":null}]}',
    },
    containerd: [["10-a.conflist", "a"]],
    crio: ["10-a.conflist", "a"],
  },
  {
    name: "the keys of a list must have their case",
    files: {
      "05-a.conflist": '{"cniVersion":"1.0.0","Name":"a","plugins":[{"type":"a"}]}',
      "10-b.conflist": list("b", "b"),
    },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "a list without plugins takes them from its folder",
    files: {
      "10-a.conflist": '{"cniVersion":"1.0.0","name":"net-a","loadOnlyInlinedPlugins":false}',
      "net-a/10-first.conf": '{"type":"a"}',
      "net-a/20-second.conf": '{"type":"kuma-cni"}',
      "net-a/30-third.conflist": list("x", "gone"),
    },
    containerd: [["10-a.conflist", "a", "kuma-cni"]],
    crio: ["10-a.conflist", "a", "kuma-cni"],
  },
  {
    name: "plugins of the folder follow those of the list",
    files: {
      "10-a.conflist": list("net-a", "a", "kuma-cni"),
      "net-a/10-first.conf": '{"type":"b"}',
    },
    containerd: [["10-a.conflist", "a", "kuma-cni", "b"]],
    crio: ["10-a.conflist", "a", "kuma-cni", "b"],
  },
  {
    name: "loadOnlyInlinedPlugins leaves the folder alone",
    files: {
      "10-a.conflist":
        '{"cniVersion":"1.0.0","name":"net-a","loadOnlyInlinedPlugins":"TRUE","plugins":[{"type":"a"}]}',
      "net-a/10-first.conf": '{"type":"b"}',
    },
    containerd: [["10-a.conflist", "a"]],
    crio: ["10-a.conflist", "a"],
  },
  {
    name: "a folder with a file that cannot be parsed spoils the list",
    files: {
      "05-a.conflist": list("net-a", "a"),
      "net-a/10-first.conf": '{"name":"no type"}',
      "10-b.conflist": list("b", "b"),
    },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "loadOnlyInlinedPlugins without plugins is an error",
    files: {
      "05-a.conflist": '{"cniVersion":"1.0.0","name":"net-a","loadOnlyInlinedPlugins":true}',
      "10-b.conflist": list("b", "b"),
    },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "the newest of cniVersions counts, those newer than libcni do not",
    files: {
      "05-a.conflist": '{"cniVersion":"0.3.1","cniVersions":["9.0.0","1.0.1"],"name":"a",' +
        '"plugins":[{"type":"a"},{"type":"kuma-cni"}]}',
      "10-b.conflist": list("b", "b"),
    },
    containerd: [["05-a.conflist", "a", "kuma-cni"]],
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "a version that is not a text is an error",
    files: {
      "05-a.conflist": '{"cniVersion":1,"name":"a","plugins":[{"type":"a"}]}',
      "10-b.conflist": list("b", "b"),
    },
    containerd: null,
    crio: ["10-b.conflist", "b"],
  },
  {
    name: "an empty net dir",
    files: { "10-a.conflist.tmp": list("a", "a") },
    containerd: null,
    crio: null,
  },
];
