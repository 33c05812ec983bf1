/** `install-cni check` and `plan`, for people and for programs. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
// @ts-types="../src/types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import { findingsText } from "../installer/commands/findings.ts";
import { styleOf } from "../installer/commands/terminal.ts";
import type { Finding } from "../installer/doctor/finding.ts";
import { exists } from "./support/files.ts";
import { InstallerHost } from "./support/installer_host.ts";

const list = "10-calico.conflist";
const primary = '{\n  "name": "k8s-pod-network",\n  "cniVersion": "0.3.1",\n  "plugins": [\n' +
  '    { "type": "calico" }\n  ]\n}\n';

Deno.test("check tells each fact in a line, with what to do about it", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primary);
  const before = await host.run(["check"]);
  equal(before.code, 1);
  match(
    before.stdout,
    /^✗ plugin +".*\/kuma-cni" is missing\n +→ kubectl delete pod -n kube-system kuma-cni-node-x$/m,
  );
  match(before.stdout, /^✗ chain +".*10-calico\.conflist" lacks the entry of kuma-cni$/m);
  match(before.stdout, /^✓ token +".*\/token" can be read$/m);
  match(before.stdout, /\n\nNot installed: .*\n$/);
  equal((await host.run([], { SLEEP: "false" })).code, 0);
  const after = await host.run(["check"]);
  equal(after.code, 0, after.stdout);
  match(after.stdout, /^✓ chain +".*10-calico\.conflist" has the entry of kuma-cni$/m);
  match(after.stdout, /\n\nInstalled: .*\n$/);
  ok(!after.stdout.includes("\x1b"), "a pipe gets no colours");
  const wide = await host.run(["check", "-o", "wide"]);
  match(wide.stdout, /^✓ files +"10-calico\.conflist"$/m);
  match(wide.stdout, /^✓ runtime +containerd \(assumed/m);
});

Deno.test("check says the same to programs in JSON and YAML", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primary);
  const json = JSON.parse((await host.run(["check", "-o", "json"])).stdout);
  deepEqual(parse((await host.run(["check", "-o", "yaml"])).stdout), json);
  equal(json.installed, false);
  deepEqual(
    json.findings.filter(({ grade }: Finding) => grade === "failure")
      .map(({ subject }: Finding) => subject),
    ["plugin", "kubeconfig", "chain"],
  );
});

Deno.test("check waits until everything is installed", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primary);
  const waiting = host.run(["check", "--wait", "60"]);
  const once = await host.run(["check", "--wait", "0.1"]);
  equal(once.code, 1, once.stdout);
  await host.run([], { SLEEP: "false" });
  equal((await waiting).code, 0);
  const wrong = await host.run(["check", "--wait", "soon"]);
  equal(wrong.code, 1);
  match(wrong.stderr, /^install-cni: .*--wait.*'soon' is invalid\. Expected a number of seconds/);
});

Deno.test("plan shows what would be done and does nothing", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primary);
  const before = host.snapshot();
  const { code, stdout } = await host.run(["plan"]);
  equal(code, 0);
  match(stdout, /^Install the program ".*\/kuma-cni", since it is missing$/m);
  match(stdout, /^Create ".*kubeconfig", since it is missing$/m);
  match(stdout, /^Change ".*10-calico\.conflist", since it lacks the entry of kuma-cni$/m);
  match(stdout, /^ {4}\+ .*"type": "kuma-cni"/m);
  ok(!stdout.includes("token-1"), "the token is nobody's to read");
  deepEqual(host.snapshot(), before);
  const data = JSON.parse((await host.run(["plan", "-o", "json"])).stdout);
  deepEqual(
    data.steps.map(({ action, cause }: { action: string; cause: string }) => `${action} ${cause}`),
    ["install-plugin binary-missing", "write kubeconfig-missing", "write entry-missing"],
  );
  await host.run([], { SLEEP: "false" });
  equal(
    (await host.run(["plan"])).stdout,
    `Nothing: everything is installed in "${list}"\n`,
  );
  ok(exists(`${host.binDir}/kuma-cni`));
});

Deno.test("plan and check say what is waited for", async () => {
  await using host = new InstallerHost();
  const plan = await host.run(["plan"]);
  match(plan.stdout, /^Wait for another CNI plugin's configuration$/m);
  match((await host.run(["check"])).stdout, /^✗ chain +Waiting for another CNI plugin's/m);
  // What was not looked at is never called good.
  const nowhere = { CNI_SOURCE_DIR: `${host.root}/nowhere` };
  const { stdout } = await host.run(["check"], nowhere);
  match(stdout, /^✗ plugin +Cannot find the plugin/m);
  const noFolder = { MOUNTED_CNI_NET_DIR: `${host.root}/nowhere` };
  match((await host.run(["check"], noFolder)).stdout, /^✗ plugin +".*\/kuma-cni" is missing/m);
});

Deno.test("a terminal gets colours, anything else plain text", () => {
  const findings: Finding[] = [
    { subject: "a", grade: "ok", text: "fine" },
    { subject: "chain", grade: "failure", text: "gone", fix: "look" },
  ];
  equal(findingsText(findings, styleOf(false)), "✓ a      fine\n✗ chain  gone\n         → look\n");
  const colored = findingsText(findings, styleOf(true));
  ok(colored.includes("\x1b[32m✓\x1b[0m") && colored.includes("\x1b[31m✗\x1b[0m"));
});
