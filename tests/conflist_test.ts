/** Edits of configuration lists: real shapes, hostile shapes, and bytes that must stay. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { fillTemplate } from "../installer/conflist/conflist.ts";
import { byteString, byteStringOf, JsonError, parseJson } from "../installer/conflist/json_edit.ts";
import { chooseTarget, classify } from "../installer/plan/detect.ts";
import { type ConfFile } from "../installer/conflist/conf_file.ts";
import {
  chain,
  isChained,
  listOfSingle,
  singleOfReferenceList,
  unchain,
} from "./support/conflist_texts.ts";

const folder = new URL("conflists/", import.meta.url);
const entry = fillTemplate(
  `{
  "cniVersion": "0.3.1",
  "name": "kuma-cni",
  "type": "kuma-cni",
  "log_level": "info",
  "kubernetes": {
    "kubeconfig": "__KUBECONFIG_FILEPATH__",
    "cni_bin_dir": "/opt/cni/bin",
    "exclude_namespaces": [ "kube-system" ]
  }
}`,
  {
    kubeconfigPath: "/etc/cni/net.d/ZZZ-kuma-cni-kubeconfig",
    agentSocketPath: "/etc/cni/net.d/kuma-cni.d/agent.sock",
    token: "secret",
  },
);
const entryValue = JSON.parse(entry);

/** Files of one environment, in the order of their bytes. */
function filesOf(environment: string): ConfFile[] {
  const names = Array.from(Deno.readDirSync(new URL(`${environment}/`, folder)), (e) => e.name);
  return names.sort().map((name) => ({
    name,
    text: byteString(Deno.readFileSync(new URL(`${environment}/${name}`, folder))),
  }));
}

const environments = Array.from(Deno.readDirSync(folder), (e) => e.name).sort();

/** Asserts that `edited` is `original` with one piece inserted. */
function assertOneInsertion(edited: string, original: string): void {
  let prefix = 0;
  while (prefix < original.length && original[prefix] === edited[prefix]) prefix++;
  const rest = original.length - prefix;
  equal(edited.slice(edited.length - rest), original.slice(prefix));
}

for (const environment of environments) {
  for (const { name, text } of filesOf(environment)) {
    if (!name.endsWith(".conflist")) continue;
    Deno.test(`chain to ${environment}/${name}`, () => {
      const original = JSON.parse(text!);
      const chained = chain(text!, entry);
      const value = JSON.parse(chained);
      deepEqual(value.plugins, [...original.plugins, entryValue]);
      deepEqual({ ...value, plugins: original.plugins }, original);
      assertOneInsertion(chained, text!);
      equal(chain(chained, entry), chained, "chaining twice is chaining once");
      equal(unchain(chained), text, "unchaining restores every byte");
      ok(isChained(chained, entry));
      equal(
        chained.includes("\r\n"),
        text!.includes("\r\n"),
      );
      equal(/[^\r]\n/.test(chained), /[^\r]\n/.test(text!), "line ends are all of one kind");
    });
  }
}

Deno.test("the entry takes over the neighbour's indentation", () => {
  const tabs = filesOf("azure-overlay")[0]!.text!;
  ok(chain(tabs, entry).includes('\n\t\t},\n\t\t{\n\t\t\t"cniVersion": "0.3.1",\n'));
  const three = filesOf("azure")[0]!.text!;
  ok(chain(three, entry).includes('\n      },\n      {\n         "cniVersion":"0.3.1",\n'));
  const compact = filesOf("gke-dataplane-v2")[0]!.text!;
  equal(chain(compact, entry).trimEnd().split("\n").length, 1);
  ok(chain(compact, entry).includes('"enable-route-mtu":true},{"cniVersion":"0.3.1",'));
  const perLine = filesOf("one-line-items")[0]!.text!;
  ok(chain(perLine, entry).includes('"snat":true},\n {"cniVersion":"0.3.1",'));
});

Deno.test("a stale, doubled or overtaken entry becomes one entry at the end", () => {
  const stale = '{"type": "kuma-cni", "log_level": "debug"}';
  const cases: [plugins: string, others: unknown[]][] = [
    [`[{"type":"a"},${stale}]`, [{ type: "a" }]],
    [`[${stale}, {"type":"a"}]`, [{ type: "a" }]],
    [`[ {"type":"a"} , ${stale} , {"type":"b"} ]`, [{ type: "a" }, { type: "b" }]],
    [`[${stale},${stale},{"type":"a"},${stale},${stale}]`, [{ type: "a" }]],
    [`[{"type":"a"},${entry},${entry}]`, [{ type: "a" }]],
    [`[{"type":"a"},${entry},{"type":"b"}]`, [{ type: "a" }, { type: "b" }]],
  ];
  for (const [plugins, others] of cases) {
    const text = `{"name":"n","plugins":${plugins},"after":[1 , 2]}`;
    const chained = chain(text, entry);
    deepEqual(JSON.parse(chained).plugins, [...others, entryValue], plugins);
    deepEqual(JSON.parse(unchain(text)).plugins, others, plugins);
    ok(chained.endsWith(',"after":[1 , 2]}'));
    equal(chain(chained, entry), chained);
  }
});

Deno.test("an entry that means the same is left as it is", () => {
  const reordered = JSON.stringify(Object.fromEntries(Object.entries(entryValue).reverse()));
  const text = `{"name":"n","plugins":[{"type":"a"},\n\n${reordered}]}`;
  equal(chain(text, entry), text);
});

Deno.test("what is no list is refused with the place", () => {
  const cases: [text: string, message: RegExp][] = [
    ["", /Expected a value at line 1, column 1, found the end of the text/],
    ['{"name":"n","plugins":[', /Expected a value at line 1/],
    ['{"name":"n"}', /The key 'plugins' is missing/],
    ['{"name":"n","plugins":{}}', /Expected an array under the key 'plugins'/],
    ['{"name":"n","plugins":[1]}', /Expected an object at 'plugins\[0\]'/],
    ['{"name":"n","plugins":[{}]}', /Expected a string at 'plugins\[0\].type'/],
    ['{"plugins":[{"type":"a"}]}', /Expected a non-empty string at 'name'/],
    ['{"name":"n","plugins":[]}', /There is no plugin/],
    [`{"name":"n","plugins":[${entry.replace('"info"', '"off"')}]}`, /There is no plugin/],
    [`{"name":"n","plugins":[${entry}]}`, /There is no plugin/],
    ['{"name":"n","plugins":[{"type":"a"}]} x', /Expected the end of the text/],
    ["\xef\xbb\xbf{}", /Expected a value/],
    ['{"name":"n\n"}', /Expected no control character in a string at line 1, column 11/],
    ['{"name":"\\x"}', /Expected a string with a closing quotation mark and valid escapes/],
    ["[".repeat(300), /at most 200 nested/],
    [`[${"0,".repeat(100_000)}0]`, /at most 100000 values/],
    ["nul", /Expected a value/],
    ['{"a":01}', /Expected "," or "}"/],
  ];
  for (const [text, message] of cases) throws(() => chain(text, entry), message, text);
});

Deno.test("of a repeated key the last one counts, as for the runtime", () => {
  const text = '{"name":"n","plugins":[{"type":"a"}],"plugins":[{"type":"b"}]}';
  const chained = chain(text, entry);
  deepEqual(JSON.parse(chained).plugins, [{ type: "b" }, entryValue]);
  equal(unchain(chained), text);
});

Deno.test("bytes that are no UTF-8 stay", () => {
  const bytes = new TextEncoder().encode('{"name":"n","note":"?","plugins":[{"type":"a"}]}');
  bytes[bytes.indexOf(0x3f)] = 0xff;
  const text = byteString(bytes);
  const chained = chain(text, entry);
  ok(chained.includes('"note":"\xff"'));
  equal(unchain(chained), text);
});

Deno.test("any list keeps its bytes through chaining and unchaining", () => {
  const space = fc.stringMatching(/^[ \t\r\n]{0,4}$/);
  const plugin = fc.tuple(fc.json({ maxDepth: 2 }), space, space, fc.string()).map(
    ([json, a, b, text]) =>
      `{${a}"type"${b}: "p"${a},${b}"x":${a}${byteStringOf(json)}${b},"y":${
        byteStringOf(JSON.stringify(text))
      }${a}}`,
  );
  const list = fc.tuple(fc.array(plugin, { minLength: 1, maxLength: 4 }), space, space, space).map(
    ([plugins, a, b, c]) =>
      `${a}{${b}"name"${c}:"n",${a}"plugins"${b}:${c}[${a}${
        plugins.join(`${b},${c}`)
      }${a}]${b}}${c}`,
  );
  fc.assert(
    fc.property(list, (text) => {
      const chained = chain(text, entry);
      equal(unchain(chained), text);
      assertOneInsertion(chained, text);
      equal(chain(chained, entry), chained);
      deepEqual(
        JSON.parse(chained).plugins,
        [...JSON.parse(text).plugins, entryValue],
      );
    }),
    { numRuns: 300 },
  );
});

Deno.test("the parser agrees with JSON.parse on what is JSON", () => {
  const noise = fc.oneof(
    fc.json(),
    fc.tuple(fc.json(), fc.nat(), fc.string({ maxLength: 2 })).map(([json, at, piece]) => {
      const place = at % (json.length + 1);
      return json.slice(0, place) + piece + json.slice(place + piece.length);
    }),
  );
  fc.assert(
    fc.property(noise, (text) => {
      let isJson = true;
      try {
        JSON.parse(text);
      } catch {
        isJson = false;
      }
      if (isJson) parseJson(byteStringOf(text));
      else throws(() => parseJson(byteStringOf(text)), JsonError);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("a single plugin becomes a list with its name and version", () => {
  const conf = filesOf("cilium-1.13")[0]!.text!;
  const list = JSON.parse(listOfSingle(conf, entry));
  deepEqual(list, {
    cniVersion: "0.3.1",
    name: "cilium",
    plugins: [JSON.parse(conf), entryValue],
  });
  const nameless = JSON.parse(listOfSingle('{"type":"x","n":12345678901234567890}', entry));
  deepEqual(Object.keys(nameless), ["name", "plugins"]);
  equal(nameless.name, "k8s-pod-network");
  ok(listOfSingle('{"type":"x","n":12345678901234567890}', entry).includes("12345678901234567890"));
});

Deno.test("a list that the reference installer wrote into a .conf is turned back", () => {
  const left = JSON.stringify(
    {
      cniVersion: "0.3.0",
      name: "k8s-pod-network",
      plugins: [{ name: "kubenet", type: "flannel" }, { type: "kuma-cni", log_level: "info" }],
    },
    null,
    2,
  );
  deepEqual(JSON.parse(singleOfReferenceList(left)!), { name: "kubenet", type: "flannel" });
  equal(singleOfReferenceList('{"type":"bridge"}'), undefined);
  equal(singleOfReferenceList('{"name":"mine","plugins":[{"type":"a"}]}'), undefined);
  equal(
    singleOfReferenceList('{"name":"k8s-pod-network","plugins":[{"type":"a"},{"type":"b"}]}'),
    undefined,
  );
});

Deno.test("placeholders are filled everywhere and cannot break out of their string", () => {
  const filled = JSON.parse(
    fillTemplate(
      '{"type":"kuma-cni","a":"__KUBECONFIG_FILEPATH__","b":"x__KUBECONFIG_FILEPATH__",' +
        '"c":"__SERVICEACCOUNT_TOKEN__"}',
      { kubeconfigPath: '/a"b\\c', agentSocketPath: "/s", token: '","type":"evil' },
    ),
  );
  equal(filled.type, "kuma-cni");
  equal(filled.a, '/a"b\\c');
  equal(filled.b, 'x/a"b\\c');
  equal(filled.c, '","type":"evil');
  deepEqual(filled.agent, { socket: "/s" });
  deepEqual(filled.capabilities, { dns: true });
});

Deno.test("what the administrator decides about socket and capabilities stays", () => {
  const text = '{"type":"kuma-cni","agent":{"socket":""},"capabilities":{"bandwidth":true}}';
  equal(fillTemplate(text, { kubeconfigPath: "/k", agentSocketPath: "/s", token: "t" }), text);
});

Deno.test("the file that the runtime loads first is chosen, whatever its extension", () => {
  const list = (type: string) => `{"name":"n","plugins":[{"type":"${type}"}]}`;
  const single = (type: string) => `{"name":"n","type":"${type}"}`;
  const choose = (confName: string, files: Record<string, string>) => {
    const names = Object.keys(files).sort();
    const target = chooseTarget(names.map((name) => ({ name, text: files[name]! })), confName);
    return target.kind === "found" ? target.file.name : `waiting for ${target.for}`;
  };
  equal(choose("", { "10-b.conflist": list("b"), "05-a.conf": single("a") }), "05-a.conf");
  equal(choose("", { "10-b.conf": single("b"), "05-a.conflist": list("a") }), "05-a.conflist");
  equal(choose("", { "10-b.conf": single("b"), "05-a.json": single("a") }), "05-a.json");
  equal(choose("", {}), "waiting for another CNI plugin's configuration");
  // Our own files are never what to chain to.
  const derived = listOfSingle(single("a"), entry);
  equal(choose("", { "05-a.conf": single("a"), "05-a-kuma.conflist": derived }), "05-a.conf");
  equal(choose("", { "05-a.conf": single("a"), "05-a-kuma.conflist": "{" }), "05-a.conf");
  equal(choose("", { "00-kuma.conf": single("kuma-cni"), "05-a.conf": single("a") }), "05-a.conf");
  // Multus calls the plugin of another file.
  equal(
    choose("", { "00-multus.conf": single("multus"), "10-b.conflist": list("b") }),
    "10-b.conflist",
  );
  ok(choose("", { "00-multus.conf": single("multus") }).includes("set CNI_CONF_NAME"));
  equal(
    choose("00-multus.conf", { "00-multus.conf": single("multus"), "10-b.conflist": list("b") }),
    "00-multus.conf",
  );
  // Wrong extension in the setting.
  equal(choose("05-cilium.conf", { "05-cilium.conflist": list("c") }), "05-cilium.conflist");
  equal(choose("05-cilium.conflist", { "05-cilium.conf": single("c") }), "05-cilium.conf");
  ok(
    choose("10-x.conflist", { "05-a.conf": single("a") }).includes(
      'there is "05-a.conf": CNI_CONF_NAME may need that name',
    ),
  );
  // The runtime fails on a first file that is no JSON, so nothing is gained by going on to the next.
  ok(
    choose("", { "05-a.conf": "{", "10-b.conf": single("b") }).startsWith(
      'waiting for "05-a.conf"',
    ),
  );
});

Deno.test("each real environment has one file to chain to", () => {
  for (const environment of environments) {
    const files = filesOf(environment);
    const target = chooseTarget(files, "");
    ok(target.kind === "found", `${environment}: ${JSON.stringify(target)}`);
    for (const file of files) ok(classify(file).kind !== "broken", file.name);
  }
});
