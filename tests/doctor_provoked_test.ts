/**
 * Each finding of `install-cni doctor`, provoked for real and looked for by the compiled program; then
 * the command that it advises is run in a shell, and what it leads to in a cluster is done.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { catalogue } from "../installer/doctor/catalogue.ts";
import type { Finding } from "../installer/doctor/finding.ts";
import { AdvisedCluster } from "./support/advised_cluster.ts";
import { AdvisedCommands } from "./support/advised_commands.ts";
import { brokenInstallations } from "./support/broken_installation.ts";
import type { BrokenNode } from "./support/broken_node.ts";
import { brokenPods } from "./support/broken_pods.ts";
import { brokenSurroundings } from "./support/broken_surroundings.ts";
import { compiledInstaller } from "./support/compiled.ts";
import { DoctorBed } from "./support/doctor_bed.ts";
import "./support/load_libc.ts";
import { inHostPidNamespace } from "./support/host_pid_namespace.ts";
import { Surroundings } from "./support/surroundings.ts";

const cases: Readonly<Record<string, BrokenNode>> = {
  ...brokenInstallations,
  ...brokenSurroundings,
  ...brokenPods,
};

interface Told {
  readonly verdict: string;
  readonly exitCode: number;
  readonly findings: readonly Finding[];
}

/** Asks; while all cores are busy even an API server at hand answers slowly, so then once more. */
async function ask(bed: DoctorBed, broken: BrokenNode, entrance: readonly string[]): Promise<Told> {
  for (let tries = 1;; tries++) {
    const told = await askOnce(bed, broken, entrance);
    const isSlow = told.findings.some(({ code }) => code === "api-slow");
    if (!isSlow || broken.finds.includes("api-slow") || tries === 5) return told;
  }
}

async function askOnce(
  bed: DoctorBed,
  { pod, behind = [], isOnHost = false }: BrokenNode,
  entrance: readonly string[],
): Promise<Told> {
  const doctor = [await compiledInstaller(), "doctor", ...(pod === undefined ? [] : [pod])];
  const sight = isOnHost ? inHostPidNamespace(bed.host.root) : [];
  const [program, ...args] = [...entrance, ...sight, ...behind, ...doctor, "-o", "json"];
  const started = performance.now();
  const { code, stdout, stderr } = await new Deno.Command(program!, {
    args,
    env: { ...bed.environment, PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    clearEnv: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  equal(text.decode(stderr), "");
  ok(performance.now() - started < 15_000, "it never hangs");
  const told: Told = JSON.parse(text.decode(stdout));
  equal(code, told.exitCode);
  return told;
}

async function provoke(broken: BrokenNode): Promise<void> {
  const { breaks, within, finds, notes = [], says, fix = "cures" } = broken;
  const node = typeof broken.node === "function" ? broken.node() : broken.node;
  // Below /dev/shm, where other tests have their nodes, a compiled program has no permissions.
  await using bed = await DoctorBed.make({ ...node, parent: "/tmp" });
  using _undone = await breaks?.(bed) ?? undefined;
  await using surroundings = within && await Surroundings.make(within.kinds, within.setup(bed));
  const entrance = surroundings?.entrance ?? [];
  const { verdict, exitCode, findings } = await ask(bed, broken, entrance);
  const found = new Set(
    findings.filter(({ grade }) => grade === "failure" || grade === "warning")
      .map(({ code }) => code!),
  );
  deepEqual([...found], finds, JSON.stringify(findings, null, 1));
  for (const code of notes) ok(findings.some((finding) => finding.code === code), code);
  match(verdict, says);
  const [first] = finds;
  equal(exitCode, first === undefined ? exitCode : catalogue[first].grade === "failure" ? 2 : 1);
  if (first === undefined) ok(exitCode < 2);

  const about = broken.about ?? finds[0] ?? notes[0];
  if (about === undefined) return;
  const finding = findings.find(({ code }) => code === about);
  equal(finding?.grade, catalogue[about].grade);
  for (const { code, grade, fix } of findings) ok(grade !== "failure" || fix, `${code} has no fix`);
  if (fix === "none") return equal(finding?.fix, undefined);
  ok(finding?.fix, `${about} has no fix`);
  const cluster = new AdvisedCluster(bed);
  const commands = new AdvisedCommands(bed.host.root);
  const answers = { token: bed.api.token, authority: bed.api.certificateAuthority };
  for (const call of await commands.run(finding.fix, answers, entrance)) await cluster.react(call);
  if (fix === "shows") return;
  if (fix !== "cures") return fix.eases(cluster);
  const after = await ask(bed, broken, entrance);
  deepEqual(
    after.findings.filter(({ code }) => code === about),
    [],
    `After ${finding.fix}`,
  );
}

/** So many are tried at once: most of the time each waits for a program. */
const atOnce = 3;

/** All that were begun; they begin with the first test that wants one. */
let results: Map<string, Promise<void>> | undefined;

function begin(): Map<string, Promise<void>> {
  const waiting = Object.entries(cases);
  const done = new Map(waiting.map(([name]) => [name, Promise.withResolvers<void>()]));
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [name, broken] = next;
      await provoke(broken).then(done.get(name)!.resolve, done.get(name)!.reject);
    }
  };
  for (let i = 0; i < atOnce; i++) work();
  for (const { promise } of done.values()) promise.catch(() => {});
  return new Map(Array.from(done, ([name, { promise }]) => [name, promise]));
}

for (const name of Object.keys(cases)) {
  Deno.test({
    name: `doctor finds it, and its advice helps: ${name}`,
    // The others' work goes on meanwhile.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () => (results ??= begin()).get(name)!,
  });
}

Deno.test("each finding that doctor declares is provoked", () => {
  const provoked = new Set(
    Object.values(cases).flatMap(({ finds, notes = [] }) => [...finds, ...notes]),
  );
  deepEqual(Object.keys(catalogue).filter((code) => !provoked.has(code as never)), []);
});
