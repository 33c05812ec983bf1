import assert from "node:assert/strict";
// @ts-types="../src/types/std_yaml_parse.d.ts"
import { parse as parseYaml } from "@std/yaml/parse";
import { formatRules } from "../installer/commands/rules.ts";
import { parseRedirectInputs } from "../installer/commands/redirect_input.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { NamespaceFacts } from "../src/redirect/ruleset.ts";

const main = new URL("../installer/main.ts", import.meta.url).pathname;

/** Runs install-cni as a person does. */
async function run(
  args: string[],
  input = "",
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--quiet", main, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  const feed = new Blob([input]).stream().pipeTo(child.stdin).catch(() => {});
  const { code, stdout, stderr } = await child.output();
  await feed;
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

const pod = (annotations: Record<string, string>, containers = ["app", "kuma-sidecar"]) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { generateName: "web-", annotations },
  spec: { containers: containers.map((name) => ({ name, image: "x" })) },
});

const meshed = pod({
  "kuma.io/sidecar-injected": "true",
  "kuma.io/builtin-dns": "enabled",
  "traffic.kuma.io/exclude-outbound-ports-for-uids": "tcp:443:1000",
});

Deno.test("rules tells the decision, where values come from, and the rules", async () => {
  const { code, stdout, stderr } = await run(["rules", "-"], JSON.stringify(meshed));
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^Pod default\/web-: redirected\n/);
  assert.match(stdout, /outgoing TCP → port 15001 of the sidecar; but not ports 9901;/);
  assert.match(stdout, /redirect\.dns\.enabled +true +from annotation kuma\.io\/builtin-dns\n/);
  assert.match(stdout, /O5 +UDP, to port 53 +→ redirect to port 15053/);
  assert.match(stdout, /Rules, IPv6: the same, with ::1 and ::6\n$/);
});

Deno.test("rules reads a file, and prints what tools can read", async () => {
  const path = await Deno.makeTempFile({ suffix: ".yaml" });
  try {
    await Deno.writeTextFile(path, "redirect: {dns: {enabled: true}}\nipFamilyMode: ipv4\n");
    const args = ["rules", path, "--resolver", "10.96.0.10", "--output", "json"];
    const { code, stdout } = await run(args);
    assert.equal(code, 0);
    const result = JSON.parse(stdout);
    assert.equal(result.decision, "redirect");
    assert.deepEqual(result.config.dns.servers, [{ family: "ipv4", address: "10.96.0.10" }]);
    assert.deepEqual(result.ruleset.families.map(({ family }: { family: string }) => family), [
      "ipv4",
    ]);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("bad input and bad options end with one line and exit code 1", async () => {
  const cases: [args: string[], input: string, message: RegExp][] = [
    [["rules", "-"], "kind: Deployment", /^install-cni: Standard input is of kind "Deployment"/],
    [["rules", "-"], "[", /^install-cni: Cannot parse standard input: /],
    [
      ["rules", "-"],
      "",
      /^install-cni: Standard input is empty, perhaps since the command before the/,
    ],
    [["rules", "-"], "# nothing\n---\n", /^install-cni: Standard input is empty, perhaps/],
    [
      ["explain", "-", "--from", "app", "--to", "dns"],
      "\n",
      /^install-cni: Standard input is empty/,
    ],
    [["rules", "/dev/null"], "", /^install-cni: \/dev\/null is empty; expected a Pod as/],
    [["rules", "-"], "{}", /has no setting of a transparent proxy.*\(it has no key at all\)/],
    [["rules", "-"], "error: not found", /no setting of a transparent proxy.*\(it has "error"\)/],
    [["rules", "-"], "not found", /^install-cni: Standard input is a plain text; expected a Pod/],
    [["rules", "-"], "[a]", /^install-cni: Standard input is a list; expected a Pod/],
    [["rules", "/nonexistent.yaml"], "", /^install-cni: Cannot read \/nonexistent\.yaml: /],
    [["rules", "-"], "kumaDPUser: root", /^install-cni: standard input: kumaDPUser is "root"/],
    [["rules", "-", "--engine", "pf"], "", /Allowed choices are nftables, iptables, ebpf/],
    [
      ["explain", "-", "--from", "me", "--to", "dns"],
      "redirect: {}",
      /^install-cni: --from me cannot be/,
    ],
  ];
  for (const [args, input, message] of cases) {
    const { code, stdout, stderr } = await run(args, input);
    assert.equal(code, 1, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, message);
    assert.match(stderr, /^[^\n]+\n$/);
  }
});

Deno.test("explain tells the end first, then the way", async () => {
  const { code, stdout } = await run(
    ["explain", "-", "--from", "uid=1000", "--to", "10.0.0.1:443/tcp"],
    JSON.stringify(meshed),
  );
  assert.equal(code, 0);
  assert.deepEqual(stdout.split("\n").slice(0, 4), [
    "UID 1000 → 10.0.0.1:443 tcp (outbound, IPv4)",
    "",
    "  goes direct, not redirected",
    "  because of O2: TCP of UID 1000 to some ports is excluded",
  ]);
  const json = await run(
    ["explain", "-", "--from", "uid=7", "--to", "dns", "--output", "json"],
    JSON.stringify(meshed),
  );
  const { verdict, conntrackZone, steps, summary } = JSON.parse(json.stdout);
  assert.deepEqual([verdict, conntrackZone], [{ kind: "redirect", port: 15053 }, 2]);
  assert.equal(steps.at(-1).rule.id, "O5");
  assert.match(summary, /ends at port 15053, the DNS proxy of the sidecar$/);
});

Deno.test("explain says why a pod is skipped", async () => {
  const input = JSON.stringify(pod({ "kuma.io/sidecar-injected": "true" }, ["app"]));
  const { code, stdout } = await run(["explain", "-", "--from", "uid=7", "--to", "dns"], input);
  assert.equal(code, 0);
  assert.match(stdout, /^Pod default\/web-: skipped, no packet is redirected\. No container/);
});

const options = { allowPodSettings: new Set<string>(), resolvers: [] };
const facts: NamespaceFacts = {
  loopback: "lo",
  ipv6: true,
  dockerOutput: { ipv4: false, ipv6: false },
  conntrackZones: true,
};

Deno.test("each output form, engine and family of the rules", () => {
  const [input] = parseRedirectInputs(JSON.stringify(meshed), "x", options);
  assert.ok(input.kind === "redirect");
  const format = (output: Parameters<typeof formatRules>[2]) =>
    formatRules(input, compileRuleset(input.config, facts), output);
  const save = format({ output: "iptables-save", family: "ipv6" });
  assert.match(save, /^# IPv6\n\*raw\n:PREROUTING ACCEPT \[0:0\]\n/);
  assert.doesNotMatch(save, /127\.0\.0/);
  assert.match(format({ output: "nft", family: "ipv4" }), /^table ip kuma_mesh \{\n/);
  assert.match(format({ output: "nft" }), /^table inet kuma_mesh \{\n/);
  assert.match(format({ output: "text", engine: "nftables" }), /redirected\n[^]*\ntable inet kuma/);
  assert.match(format({ output: "text", engine: "iptables" }), /redirected\n[^]*\n# IPv4\n\*raw\n/);
  const programs = format({ output: "text", engine: "ebpf" });
  assert.match(programs, /redirected\n[^]*\nprogram kuma_connect4\n[^]* ; M6: outgoing traffic/);
  assert.doesNotMatch(format({ output: "text", family: "ipv4" }), /Rules, IPv6/);
});

Deno.test("a pod that is skipped has a reason in each form", () => {
  const [input] = parseRedirectInputs(JSON.stringify(pod({})), "x", options);
  assert.ok(input.kind === "skip");
  assert.match(formatRules(input, undefined, { output: "text" }), /^Pod .*: skipped\. /);
  assert.match(formatRules(input, undefined, { output: "nft" }), /^# Pod .*: skipped\. /);
  const { decision, code } = JSON.parse(formatRules(input, undefined, { output: "json" }));
  assert.deepEqual([decision, code], ["skip", "not-injected"]);
});

Deno.test("a mapping of warnings is shown before the rules", () => {
  const [input] = parseRedirectInputs("dryRun: true\nredirect: {inbound: {port: 1}}", "x", options);
  assert.ok(input.kind === "redirect");
  const text = formatRules(input, compileRuleset(input.config, facts), { output: "text" });
  assert.match(text, /Warnings\n {2}! x: dryRun has no effect: /);
  assert.match(text, /redirect\.inbound\.port +1 +from x: redirect\.inbound\.port\n/);
});

Deno.test("each pod of a list and of a stream of documents gets its answer", async () => {
  const list = { apiVersion: "v1", kind: "List", items: [meshed, pod({}), { kind: "Service" }] };
  const both = await run(["rules", "-"], JSON.stringify(list));
  assert.equal(both.code, 0, both.stderr);
  assert.match(both.stdout, /^Pod default\/web-: redirected\n[^]*\nPod default\/web-: skipped/);
  assert.equal(both.stderr, 'Warning: Objects of kind "Service" are left out\n');

  const stream = `${JSON.stringify(meshed)}\n---\n---\nredirect: {inbound: {port: 1}}\n`;
  const parsed = JSON.parse((await run(["rules", "-", "-o", "json"], stream)).stdout);
  assert.deepEqual(parsed.map(({ title }: { title: string }) => title), [
    "Pod default/web-",
    "Configuration standard input",
  ]);
  assert.equal(parsed[1].config.inbound.port, 1);
  const packets = await run(["explain", "-", "--from", "10.0.0.1", "--to", "8080"], stream);
  assert.equal(packets.stdout.match(/ends at port/g)?.length, 2, packets.stderr);

  const one = await run(["apply", "-", "--netns", "/proc/self/ns/net"], stream);
  assert.equal(one.code, 1);
  assert.match(
    one.stderr,
    /^install-cni: Standard input has 2 pods or configurations, expected one/,
  );
});

Deno.test("wide output lists all settings", async () => {
  const wide = await run(["rules", "-", "-o", "wide"], JSON.stringify(meshed));
  assert.equal(wide.stdout, (await run(["rules", "-", "--all"], JSON.stringify(meshed))).stdout);
  assert.match(wide.stdout, /redirect\.inbound\.excludePorts/);
});

Deno.test("YAML says what JSON says", async () => {
  const json = await run(["rules", "-", "-o", "json"], JSON.stringify(meshed));
  const yaml = await run(["rules", "-", "--output", "yaml"], JSON.stringify(meshed));
  assert.deepEqual(parseYaml(yaml.stdout), JSON.parse(json.stdout));
  assert.match(yaml.stdout, /^title: Pod default\/web-\n/);
});

Deno.test("options that contradict each other are told", async () => {
  for (
    const [args, message] of [
      [["--engine", "iptables", "-o", "nft"], /--engine iptables is for --output text/],
      [["--family", "ipv6", "--no-ipv6"], /--family ipv6 asks for rules that --no-ipv6 leaves out/],
    ] as const
  ) {
    const { code, stdout, stderr } = await run(["rules", "-", ...args], JSON.stringify(meshed));
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, message);
  }
});

Deno.test("a mistyped annotation is told with the one that is meant", async () => {
  const typo = pod({
    "kuma.io/sidecar-injected": "true",
    "traffic.kuma.io/exclude-outbound-port": "3306",
    "traffic.kuma.io/transparent-proxy-configmap-name": "known",
    "kuma.io/mesh": "default",
  });
  const { stdout } = await run(["rules", "-"], JSON.stringify(typo));
  assert.deepEqual(stdout.match(/^(?: {2})! .*$/gm), [
    "  ! Annotation traffic.kuma.io/exclude-outbound-port is not known and has no effect; " +
    "did you mean traffic.kuma.io/exclude-outbound-ports?",
  ]);
});

Deno.test("a reader that goes away is met with silence", async () => {
  const command = `"$0" run -A --quiet "$1" rules - --all | head -1; echo "\${PIPESTATUS[0]}"`;
  const child = new Deno.Command("bash", {
    args: ["-c", `sleep 0; ${command}`, Deno.execPath(), main],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  // Far more than a pipe holds, so that something is left to write when the reader has gone.
  const many = { kind: "List", items: Array.from({ length: 200 }, () => meshed) };
  await new Blob([JSON.stringify(many)]).stream().pipeTo(child.stdin);
  const { stdout, stderr } = await child.output();
  assert.equal(new TextDecoder().decode(stderr), "");
  assert.equal(new TextDecoder().decode(stdout), "Pod default/web-: redirected\n141\n");
});
