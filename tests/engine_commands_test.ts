import assert from "node:assert/strict";
import { Command } from "@commander-js/extra-typings";
import { checkRulesOf, register } from "../installer/commands/engine.ts";
import { createNamespace, setLinkUp } from "./support/topology.ts";
import { saved, tool } from "./support/iptables.ts";
import { ManifestFile } from "./support/manifest_file.ts";

const values = { resolver: [], allowPodSetting: [], engine: "auto" as const };

/** Runs a command as the program would, and returns what it printed. */
async function run(...args: string[]): Promise<{ out: string; error: string | undefined }> {
  const program = new Command().exitOverride();
  let complaint = "";
  program.configureOutput({ writeErr: (text) => complaint += text });
  register(program);
  for (const command of program.commands) {
    command.exitOverride().configureOutput({ writeErr: (text) => complaint += text });
  }
  let out = "";
  const { writeSync } = Deno.stdout;
  Deno.stdout.writeSync = (bytes) => {
    out += new TextDecoder().decode(bytes);
    return bytes.length;
  };
  try {
    await program.parseAsync(args, { from: "user" });
    return { out, error: undefined };
  } catch {
    return { out, error: complaint };
  } finally {
    Deno.stdout.writeSync = writeSync;
  }
}

Deno.test("apply, check and remove work on a namespace by hand", async () => {
  using namespace = createNamespace();
  namespace.run(() => setLinkUp("lo"));
  using meshedFile = new ManifestFile({
    "kuma.io/sidecar-injected": "true",
    "kuma.io/builtin-dns": "enabled",
  });
  using otherFile = new ManifestFile({ "kuma.io/sidecar-injected": "false" });
  const [meshed, other] = [meshedFile.path, otherFile.path];

  assert.equal((await checkRulesOf(namespace.path, meshed, values)).equal, false);
  assert.equal((await checkRulesOf(namespace.path, other, values)).equal, true);

  const first = await run("apply", meshed, "--netns", namespace.path);
  assert.match(first.out, /^Pod demo\/web-0: \d+ rules for IPv4 and IPv6 are in \/run\/netns\//);
  assert.match(first.out, /engine: nftables \(no iptables rules of others are in the way\)/);
  assert.equal((await checkRulesOf(namespace.path, meshed, values)).equal, true);
  const { equal, data } = await checkRulesOf(namespace.path, other, values);
  assert.equal(equal, false);
  const { decision, differences } = data as { decision: string; differences: unknown[] };
  assert.deepEqual([decision, differences.length > 0], ["skip", true]);

  const again = await run("apply", meshed, "--netns", namespace.path, "-o", "json");
  const { engine, ruleCount, title } = JSON.parse(again.out);
  assert.deepEqual([engine, title, ruleCount > 10], ["nftables", "Pod demo/web-0", true]);

  const second = await run("apply", meshed, "--netns", namespace.path, "--engine", "iptables");
  assert.match(
    second.out,
    /engine: iptables, nft \(.*\)\n {2}removed: earlier rules of nftables/,
  );
  const checked = await checkRulesOf(namespace.path, meshed, values);
  assert.match(checked.text, /are as they should be \(iptables\)$/);

  namespace.run(() => tool("iptables-nft", ["-t", "nat", "-F", "KUMA_MESH_INBOUND"]));
  const broken = await checkRulesOf(namespace.path, meshed, values);
  assert.equal(broken.equal, false);
  assert.match(
    broken.text,
    /\(iptables, 2\):\n {2}missing: ip nat KUMA_MESH_INBOUND rule 1 \(I4\)/,
  );

  assert.match(
    (await run("remove", "--netns", namespace.path)).out,
    /^Removed .* of iptables from/,
  );
  assert.match((await run("remove", "--netns", namespace.path)).out, /^Nothing to remove/);
  const none = await run("remove", "--netns", namespace.path, "-o", "json");
  assert.deepEqual(JSON.parse(none.out), { namespace: namespace.path, removed: [] });
  namespace.run(() => assert.equal(/KUMA/.test(saved("ipv4", "nft")), false));

  assert.match((await run("apply", other, "--netns", namespace.path)).out, /skipped, nothing/);

  await run("apply", meshed, "--netns", namespace.path);
  for (const text of ["", "{}\n", "error: no such pod\n"]) {
    Deno.writeTextFileSync(other, text);
    const { error } = await run("apply", other, "--netns", namespace.path);
    assert.match(error ?? "", /expected a Pod as the injector leaves it/);
    assert.equal((await checkRulesOf(namespace.path, meshed, values)).equal, true, "untouched");
  }
});

Deno.test("apply and remove refuse this process's own namespace and what is none", async () => {
  const own = await run("remove", "--netns", "/proc/self/ns/net");
  assert.match(
    own.error ?? "",
    /"\/proc\/self\/ns\/net" is this process's own; name that of a pod/,
  );
  const none = await run("remove", "--netns", "/etc/passwd");
  assert.match(none.error ?? "", /\/etc\/passwd.* plain file, not a namespace file/);
});
