import assert from "node:assert/strict";
import { type Difference, EngineError } from "../src/engine/engine.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { type Layout, planTables } from "../src/engine/nftables/plan.ts";
import { listAddresses, loopbackLink, removeAddress } from "../src/linux/addresses.ts";
import { NetlinkSocket } from "../src/linux/netlink.ts";
import { createNamespace, type NamedNamespace, writeSysctl } from "./support/topology.ts";
import type { RedirectRulesVersion } from "../src/redirect/config.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { nftText } from "../src/redirect/nft_text.ts";
import type { Match, Rule, Ruleset, Verdict } from "../src/redirect/ruleset.ts";
import { listRuleset, nftScript, ruleHandle } from "./support/nft.ts";
import { readVectors, vectorConfig, vectorFacts } from "./support/vectors.ts";

const layouts: readonly Layout[] = ["inet", "per-family"];
const versions: readonly RedirectRulesVersion[] = ["2.9", "3"];

function vector(name: string, version: RedirectRulesVersion = "2.9"): Ruleset {
  const found = readVectors().find((candidate) => candidate.name === name)!;
  return compileRuleset(vectorConfig(found, version), vectorFacts(found));
}

function rule(id: string, matches: readonly Match[], verdict: Verdict): Rule {
  return { id, comment: `rule ${id}`, matches, verdict, placement: "append" };
}

/** A ruleset with one chain of its own, jumped to from OUTPUT, in one or both families. */
function custom(ipv4: readonly Rule[], ipv6: readonly Rule[] = []): Ruleset {
  const tables = (rules: readonly Rule[]) => [{
    name: "nat" as const,
    chains: [
      {
        name: "OUTPUT",
        base: true,
        rules: [rule("O", [], { kind: "jump", chain: "KUMA_MESH_OWN" })],
      },
      { name: "KUMA_MESH_OWN", base: false, rules },
    ],
  }];
  const families = [
    { family: "ipv4" as const, tables: tables(ipv4) },
    ...(ipv6.length > 0 ? [{ family: "ipv6" as const, tables: tables(ipv6) }] : []),
  ];
  return { families, comments: true, ipv6PassthroughAddress: false };
}

/** What nft lists after loading the rules from text: an encoding that is not ours. */
function listedFromText(ruleset: Ruleset, layout: Layout): string {
  using namespace = createNamespace();
  nftScript(namespace, nftText(planTables(ruleset, layout), { comments: ruleset.comments }));
  return listRuleset(namespace);
}

function applied(namespace: NamedNamespace, ruleset: Ruleset, engine = new NftablesEngine()): void {
  namespace.run(() => {
    engine.apply(ruleset);
    assert.deepEqual(engine.verify(ruleset), []);
  });
}

for (const layout of layouts) {
  Deno.test(`nft lists every vector as if it had loaded it from text, layout ${layout}`, () => {
    for (const { name } of readVectors()) {
      for (const version of versions) {
        using namespace = createNamespace();
        const ruleset = vector(name, version);
        applied(namespace, ruleset, new NftablesEngine(layout));
        assert.equal(listRuleset(namespace), listedFromText(ruleset, layout), `${name} ${version}`);
      }
    }
  });
}

Deno.test("every kind of match and verdict survives the way through the kernel", () => {
  const ports = (from: number, to = from) => ({ from, to });
  const port = (
    kind: "source-port" | "destination-port",
    negated: boolean,
    ...list: number[][]
  ) => ({
    kind,
    negated,
    multiport: list.length > 1,
    ports: list.map(([from, to]) => ports(from!, to)),
  } as const);
  const tcp = { kind: "protocol", protocol: "tcp" } as const;
  const owner = (negated: boolean, from: number, to = from) =>
    ({ kind: "owner", negated, uids: { from, to } }) as const;
  const shared: Match[][] = [
    [tcp],
    [{ kind: "protocol", protocol: "udp" }, port("source-port", false, [53])],
    [tcp, port("destination-port", false, [1, 65535])],
    [tcp, port("destination-port", true, [1024, 2048])],
    [tcp, port("destination-port", false, [65535], [1, 9])],
    [tcp, port("destination-port", false, [22], [2000, 2100], [2050, 2200], [8080], [8081])],
    [tcp, port("source-port", false, [1, 5], [60000, 65535])],
    [port("destination-port", false, [443]), tcp],
    [owner(false, 0)],
    [owner(true, 4294967294)],
    [owner(false, 1, 4294967294)],
    [owner(false, 65, 70), tcp],
    [owner(true, 255, 256)],
    [{ kind: "input-interface", name: "eth0" }],
    [{ kind: "output-interface", name: "lo" }],
    [{ kind: "output-interface", name: "interface-of-15" }],
    [{ kind: "input-interface", name: "cni+" }],
    [{ kind: "output-interface", name: "prefix-of-15by+" }],
    [{ kind: "conntrack-state", state: "invalid" }],
  ];
  const cidr = (family: "ipv4" | "ipv6", address: string, prefix: number) =>
    [false, true].flatMap((negated) =>
      (["source-address", "destination-address"] as const).map((kind): Match[] => [
        { kind, negated, cidr: { family, address, prefix } },
      ])
    );
  const ipv4 = [[1, "128.0.0.0"], [7, "10.0.0.0"], [8, "10.0.0.0"], [9, "10.128.0.0"]] as const;
  const ipv4More = [[17, "10.1.128.0"], [24, "10.1.2.0"], [31, "10.1.2.2"], [
    32,
    "10.1.2.3",
  ]] as const;
  const ipv6 = [[1, "8000::"], [3, "2000::"], [32, "2001:db8::"], [48, "fd77::"], [
    63,
    "fd77:0:0:2::",
  ]] as const;
  const ipv6More = [[64, "fd77::"], [65, "fd77::"], [127, "fd77::2"], [128, "fd77::3"], [
    120,
    "::ffff:0:0",
  ]] as const;
  const of = (groups: Match[][]) =>
    groups.map((matches, index) => rule(`T${index}`, matches, { kind: "return" }));
  const verdicts: Rule[] = [
    rule("V1", [], { kind: "log", prefix: "OUTPUT:", level: 0 }),
    rule("V2", [], { kind: "log", prefix: "x".repeat(100), level: 7 }),
    rule("V3", [tcp], { kind: "redirect", port: 1 }),
    rule("V4", [tcp], { kind: "redirect", port: 65535 }),
    rule("V5", [], { kind: "drop" }),
  ];
  const ruleset = custom(
    [
      ...of([...shared, ...[...ipv4, ...ipv4More].flatMap(([p, a]) => cidr("ipv4", a, p))]),
      ...verdicts,
    ],
    [
      ...of([...shared, ...[...ipv6, ...ipv6More].flatMap(([p, a]) => cidr("ipv6", a, p))]),
      ...verdicts,
    ],
  );
  for (const layout of layouts) {
    using namespace = createNamespace();
    applied(namespace, ruleset, new NftablesEngine(layout));
    assert.equal(listRuleset(namespace), listedFromText(ruleset, layout));
  }
});

Deno.test("a network of length zero means everything, or nothing when negated", () => {
  using namespace = createNamespace();
  const match = (negated: boolean): Match => ({
    kind: "destination-address",
    negated,
    cidr: { family: "ipv4", address: "0.0.0.0", prefix: 0 },
  });
  applied(
    namespace,
    custom([
      rule("Z1", [match(true)], { kind: "drop" }),
      rule("Z2", [match(false)], { kind: "return" }),
      rule("Z3", [{ kind: "output-interface", name: "+" }], { kind: "return" }),
    ]),
  );
  assert.match(
    listRuleset(namespace),
    /ip daddr & 0\.0\.0\.0 != 0\.0\.0\.0 drop|ip daddr != 0\.0\.0\.0\/0 drop/,
  );
});

Deno.test("what no packet could meet is refused before the kernel sees anything", () => {
  using namespace = createNamespace();
  const wrong: [Rule, RegExp][] = [
    [
      rule("W1", [{ kind: "input-interface", name: "sixteen-byte-nam" }], { kind: "drop" }),
      /15 bytes/,
    ],
    [rule("W2", [], { kind: "log", prefix: "größe", level: 7 }), /ASCII/],
    [rule("W3", [], { kind: "log", prefix: "x", level: 8 }), /level 8/],
  ];
  for (const [bad, words] of wrong) {
    namespace.run(() => assert.throws(() => new NftablesEngine().apply(custom([bad])), words));
  }
  assert.equal(listRuleset(namespace), "");
});

Deno.test("nft shows chains and comments that a person can read", () => {
  using namespace = createNamespace();
  applied(namespace, vector("C1"));
  const listing = listRuleset(namespace);
  for (
    const line of [
      "table inet kuma_mesh {",
      "type filter hook prerouting priority raw; policy accept;",
      "type nat hook output priority -101; policy accept;",
      "chain KUMA_MESH_INBOUND {",
      "chain KUMA_MESH_OUTBOUND_REDIRECT {",
      'udp sport 53 ct zone set 1 comment "kuma/mesh/transparent/proxy/',
      'meta l4proto tcp counter packets 0 bytes 0 redirect to :15006 comment "kuma/mesh/transparent/proxy/',
    ]
  ) assert(listing.includes(line), `${line} in\n${listing}`);
});

Deno.test("without comments no rule has one", () => {
  using namespace = createNamespace();
  applied(namespace, { ...vector("C1"), comments: false });
  assert.doesNotMatch(listRuleset(namespace), /comment/);
});

Deno.test("applying twice gives the same ruleset", () => {
  using namespace = createNamespace();
  applied(namespace, vector("C1"));
  const once = listRuleset(namespace);
  applied(namespace, vector("C1"));
  assert.equal(listRuleset(namespace), once);
});

Deno.test("rules that nft saved and loaded again still compare equal", () => {
  for (const { name } of readVectors()) {
    for (const version of versions) {
      using namespace = createNamespace();
      const ruleset = vector(name, version);
      applied(namespace, ruleset);
      nftScript(namespace, `flush ruleset\n${listRuleset(namespace)}`);
      assert.deepEqual(namespace.run(() => new NftablesEngine().verify(ruleset)), [], name);
    }
  }
});

Deno.test("a new ruleset, layout or family mode leaves nothing of the old one", () => {
  using namespace = createNamespace();
  const ipv4 = { ...vector("C6"), ipv6PassthroughAddress: false };
  const steps: [Ruleset, Layout][] = [
    [vector("C1"), "inet"],
    [vector("C5"), "per-family"],
    [{ ...ipv4, families: ipv4.families.filter(({ family }) => family === "ipv4") }, "inet"],
    [vector("C10"), "inet"],
  ];
  for (const [ruleset, layout] of steps) {
    applied(namespace, ruleset, new NftablesEngine(layout));
    assert.equal(listRuleset(namespace), listedFromText(ruleset, layout));
  }
});

Deno.test("verify names every kind of tampering", async (t) => {
  const table = "inet kuma_mesh";
  const outbound = `${table} KUMA_MESH_OUTBOUND`;
  type Tamper = (namespace: NamedNamespace) => void;
  const script = (text: string): Tamper => (namespace) => nftScript(namespace, text);
  const handle =
    (chain: string, text: string, make: (handle: string) => string): Tamper => (namespace) =>
      nftScript(namespace, make(ruleHandle(namespace, table, chain, text)));
  const cases: [name: string, tamper: Tamper, kind: Difference["kind"], object: RegExp][] = [
    ["flushed ruleset", script("flush ruleset"), "missing", /^table inet kuma_mesh$/],
    ["flushed chain", script(`flush chain ${outbound}`), "missing", /OUTBOUND rule 1 \(M2\)$/],
    [
      "deleted rule",
      handle(
        "KUMA_MESH_OUTBOUND",
        "meta skuid 5678 return",
        (h) => `delete rule ${outbound} handle ${h}`,
      ),
      "missing",
      /KUMA_MESH_OUTBOUND rule \d+ \(M6\)$/,
    ],
    [
      "inserted rule",
      script(`insert rule ${outbound} accept`),
      "unexpected",
      /OUTBOUND at position 1$/,
    ],
    [
      "appended rule",
      script(`add rule ${outbound} accept`),
      "unexpected",
      /OUTBOUND at position \d+$/,
    ],
    [
      "changed rule",
      handle(
        "KUMA_MESH_INBOUND_REDIRECT",
        "15006",
        (h) =>
          `replace rule ${table} KUMA_MESH_INBOUND_REDIRECT handle ${h} meta l4proto tcp redirect to :15007`,
      ),
      "changed",
      /KUMA_MESH_INBOUND_REDIRECT rule 1 \(D1\)$/,
    ],
    [
      "changed set",
      handle(
        "nat_output",
        "{ 1900, 2000-2100 }",
        (h) =>
          `add rule ${table} nat_output position ${h} tcp dport { 1900, 2000-2101 } meta skuid 65-70 return\n` +
          `delete rule ${table} nat_output handle ${h}`,
      ),
      "changed",
      /nat_output rule 3 \(O2\)$/,
    ],
    [
      "missing chain",
      script(`flush chain ${table} nat_prerouting; delete chain ${table} nat_prerouting`),
      "missing",
      /^inet kuma_mesh nat_prerouting$/,
    ],
    [
      "added chain",
      script(`add chain ${table} intruder`),
      "unexpected",
      /^inet kuma_mesh intruder$/,
    ],
    [
      "policy",
      script(`chain ${table} nat_output { policy drop; }`),
      "changed",
      /kuma_mesh nat_output$/,
    ],
    [
      "dormant table",
      script(`table ${table} { flags dormant; }`),
      "changed",
      /^table inet kuma_mesh$/,
    ],
    [
      "table of another family",
      script("table ip6 kuma_mesh {}"),
      "unexpected",
      /^table ip6 kuma_mesh$/,
    ],
    [
      "priority",
      (namespace) => {
        const listing = listRuleset(namespace).replace("priority -101", "priority -105");
        nftScript(namespace, `flush ruleset\n${listing}`);
      },
      "changed",
      /kuma_mesh nat_output$/,
    ],
    [
      "passthrough address",
      (namespace) => namespace.run(() => removeAddress(loopbackLink().index, "::6", 128)),
      "missing",
      /^address ::6\/128 on lo$/,
    ],
  ];
  const found = readVectors().find((candidate) => candidate.name === "C5")!;
  const config = vectorConfig(found, "2.9");
  const outbound3306 = { ...config.outbound, excludePorts: [3306] };
  const ruleset = compileRuleset({ ...config, outbound: outbound3306 }, vectorFacts(found));
  for (const [name, tamper, kind, object] of cases) {
    await t.step(name, () => {
      using namespace = createNamespace();
      applied(namespace, ruleset);
      tamper(namespace);
      const differences = namespace.run(() => new NftablesEngine().verify(ruleset));
      assert(
        differences.some((difference) =>
          difference.kind === kind && object.test(difference.object)
        ),
        `${kind} ${object} in ${JSON.stringify(differences, undefined, 1)}`,
      );
      applied(namespace, ruleset);
    });
  }
});

Deno.test("verify shows expected and actual of a changed rule, and nothing but that", () => {
  using namespace = createNamespace();
  applied(namespace, vector("C0"));
  const chain = "inet kuma_mesh KUMA_MESH_OUTBOUND_REDIRECT";
  const handle = ruleHandle(namespace, "inet kuma_mesh", "KUMA_MESH_OUTBOUND_REDIRECT", "15001");
  nftScript(
    namespace,
    `replace rule ${chain} handle ${handle} meta l4proto tcp redirect to :15002`,
  );
  const differences = namespace.run(() => new NftablesEngine().verify(vector("C0")));
  assert.equal(differences.length, 1);
  assert.equal(differences[0]!.expected, "meta l4proto tcp counter redirect to :15001");
  assert.equal(differences[0]!.actual, "meta l4proto tcp redirect to :15002");
});

for (const layout of layouts) {
  Deno.test(`a rule that the kernel refuses leaves the old rules of both families, layout ${layout}`, () => {
    using namespace = createNamespace();
    applied(
      namespace,
      { ...vector("C1"), ipv6PassthroughAddress: false },
      new NftablesEngine(layout),
    );
    const before = listRuleset(namespace);
    const loop = rule("L1", [], { kind: "jump", chain: "KUMA_MESH_OWN" });
    const fine = rule("L0", [], { kind: "return" });
    const bad = { ...custom([fine], [fine, loop]), ipv6PassthroughAddress: true };
    const error = namespace.run(() => {
      try {
        new NftablesEngine(layout).apply(bad);
      } catch (error) {
        return error;
      }
      return undefined;
    });
    assert(error instanceof EngineError);
    assert.match(
      error.message,
      /rule 2 \(L1\) of chain KUMA_MESH_OWN of table (inet|ip6) kuma_mesh: (ELOOP|EMLINK)/,
    );
    assert.equal(listRuleset(namespace), before);
    assert.deepEqual(namespace.run(() => listAddresses("ipv6").map(({ address }) => address)), [
      "::1",
    ], "the address is taken back");
  });
}

Deno.test("three thousand exclusions with sets of ports are installed and compared", () => {
  using namespace = createNamespace();
  const match = (index: number): Match[] => [
    { kind: "protocol", protocol: "tcp" },
    {
      kind: "destination-port",
      negated: false,
      multiport: true,
      ports: index % 10 === 0
        ? [{ from: index + 1, to: index + 1 }, { from: index + 10000, to: index + 10020 }]
        : [{ from: index + 1, to: index + 1 }],
    },
  ];
  const rules = Array.from({ length: 3000 }, (_, i) => rule(`E${i}`, match(i), { kind: "return" }));
  const ruleset = custom(rules);
  applied(namespace, ruleset);
  const changed = custom([
    ...rules.slice(0, 2990),
    rule("E2990", match(5000), { kind: "return" }),
    ...rules.slice(2991),
  ]);
  const differences = namespace.run(() => new NftablesEngine().verify(changed));
  assert.deepEqual(differences.map(({ kind, object }) => `${kind} ${object}`), [
    "changed ip kuma_mesh KUMA_MESH_OWN rule 2991 (E2990)",
  ]);
});

Deno.test("what somebody takes away before it is read back makes apply fail, and nothing is left", () => {
  const takes = ["flush chain inet kuma_mesh KUMA_MESH_OUTBOUND", "delete table inet kuma_mesh"];
  for (const take of takes) {
    using namespace = createNamespace();
    const { batch } = NetlinkSocket.prototype;
    // Another program is at work right after the kernel has taken the transaction.
    NetlinkSocket.prototype.batch = function (attempt, messages) {
      NetlinkSocket.prototype.batch = batch;
      const answers = batch.call(this, attempt, messages);
      nftScript(namespace, take);
      return answers;
    };
    try {
      namespace.run(() =>
        assert.throws(() => new NftablesEngine().apply(vector("C1")), (error) => {
          assert.ok(error instanceof EngineError);
          assert.match(error.message, /The kernel has other rules than were sent/);
          assert.ok(error.differences.length > 0);
          return true;
        })
      );
    } finally {
      NetlinkSocket.prototype.batch = batch;
    }
    assert.equal(listRuleset(namespace), "");
  }
});

Deno.test("remove deletes our tables of every family and nobody else's", () => {
  using namespace = createNamespace();
  const foreign =
    "table inet other {\n\tchain c {\n\t\ttype nat hook output priority -100; policy accept;\n\t\ttcp dport 1 redirect to :2\n\t}\n}\ntable ip kuma_mesh_not_ours {\n}\n";
  nftScript(namespace, foreign);
  const before = listRuleset(namespace);
  const engine = new NftablesEngine();
  assert.equal(namespace.run(() => engine.remove()), false);
  applied(namespace, vector("C1"));
  nftScript(namespace, "table ip kuma_mesh { chain x { accept; }; }; table ip6 kuma_mesh {}");
  assert.equal(namespace.run(() => engine.remove()), true);
  assert.equal(listRuleset(namespace), before);
  assert.equal(namespace.run(() => engine.remove()), false);
});

Deno.test("rules that are to be inserted stand before foreign ones, others after", () => {
  using namespace = createNamespace();
  applied(namespace, vector("C0"));
  assert.match(
    listRuleset(namespace),
    /hook prerouting priority dstnat \+ 1;[^]*hook output priority -99;/,
  );
  applied(namespace, vector("C13"));
  assert.match(
    listRuleset(namespace),
    /hook prerouting priority dstnat - 1;[^]*hook output priority -101;/,
  );
});

Deno.test("a pod without IPv6 gets a note instead of the passthrough address", () => {
  using namespace = createNamespace();
  namespace.run(() => {
    writeSysctl("net/ipv6/conf/all/disable_ipv6", "1");
    const engine = new NftablesEngine();
    const { notes } = engine.apply(vector("C0"));
    assert.match(notes.join(), /IPv6 is disabled .* ::6\/128 .* "lo" \(EACCES\)/);
    assert.deepEqual(engine.verify(vector("C0")), []);
  });
});

Deno.test("a jump to a chain of somebody else ends our chain, with a note", () => {
  using namespace = createNamespace();
  const { notes } = namespace.run(() => new NftablesEngine().apply(vector("C7")));
  assert.match(notes.join(), /"DOCKER_OUTPUT" is in another table/);
  assert.match(listRuleset(namespace), /udp dport 53 meta skuid 5678 return/);
});

Deno.test("another program that keeps changing its own tables disturbs neither apply nor verify", async () => {
  using namespace = createNamespace();
  const churn =
    "while :; do nft add table ip churn; nft 'add chain ip churn c'; nft delete table ip churn; done";
  const child = new Deno.Command("nsenter", {
    args: [`--net=${namespace.path}`, "sh", "-c", churn],
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    const rulesets = [vector("C1"), vector("C5")];
    const end = performance.now() + 2000;
    for (let i = 0; performance.now() < end; i++) applied(namespace, rulesets[i % 2]!);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
});

Deno.test("without the capability the error names it", () => {
  const script = `
    import { NftablesEngine } from ${
    JSON.stringify(import.meta.resolve("../src/engine/nftables/nftables_engine.ts"))
  };
    try { new NftablesEngine().remove(); } catch (error) { console.log(error.message); }`;
  const { stdout, stderr } = new Deno.Command("setpriv", {
    args: ["--bounding-set=-net_admin", "--inh-caps=-net_admin", Deno.execPath(), "eval", script],
  }).outputSync();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.match(text, /Cannot remove the rules with nftables: .*EPERM.*CAP_NET_ADMIN/);
});

Deno.test("of thousands of refused rules the first is named and the others are counted", () => {
  using namespace = createNamespace();
  const loop = (index: number) => rule(`L${index}`, [], { kind: "jump", chain: "KUMA_MESH_OWN" });
  const fine = rule("L0", [], { kind: "return" });
  const ruleset = custom([fine, ...Array.from({ length: 5000 }, (_, index) => loop(index + 1))]);
  namespace.run(() =>
    assert.throws(
      () => new NftablesEngine().apply(ruleset),
      /rule 2 \(L1\) of chain KUMA_MESH_OWN .*EMLINK.* \d+ more messages were refused/,
    )
  );
  assert.equal(listRuleset(namespace), "");
});
