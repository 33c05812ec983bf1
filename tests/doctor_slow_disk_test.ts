/** `install-cni doctor` where the program lies on a disk that is too slow to compare it. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { planOf } from "../installer/commands/doctor.ts";
import { diagnose } from "../installer/doctor/diagnosis.ts";
import { askOthers, lookAtNode } from "../installer/doctor/look.ts";
import { lookAtInstall } from "../installer/doctor/look_at_install.ts";
import { DoctorBed } from "./support/doctor_bed.ts";
import "./support/load_libc.ts";

Deno.test({
  name: "doctor calls a program unseen, and no more, that it could not compare in time",
  // The comparison that was given up goes on until the process ends: hence a file of its own.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: comparesTooLong,
});

async function comparesTooLong(): Promise<void> {
  await using bed = await DoctorBed.make();
  const { operations, settings } = bed;
  const program = bed.path("/opt/cni/bin/kuma-cni");
  // Too much to compare within a millisecond.
  for (const path of [`${settings.sourceDir}/kuma-cni`, program]) Deno.truncateSync(path, 1 << 27);
  const observed = await lookAtInstall(operations, settings, settings.sourceDir, 1);
  equal(observed.plugin.kind, "unseen");
  const { exitCode, verdict, findings } = diagnose(
    lookAtNode(
      operations,
      settings,
      observed,
      planOf(settings, observed),
      await askOthers(settings),
    ),
  );
  const [plugin] = findings.filter(({ subject }) => subject === "plugin");
  equal(plugin?.grade, "unknown");
  match(plugin?.text ?? "", /^Whether ".*" is the one of this version cannot be seen here: compar/);
  equal(findings.find(({ subject }) => subject === "chain")?.grade, "ok");
  const wrong = findings.filter(({ grade }) => grade === "failure" || grade === "warning");
  deepEqual(wrong.filter(({ code }) => code !== "api-slow"), []);
  ok(exitCode < 2);
  match(verdict, /^Healthy: .*(look was not possible|, but: The API server answers in)/);
  Deno.removeSync(program);
  const without = await lookAtInstall(operations, settings, settings.sourceDir, 1);
  equal(without.plugin.kind, "missing");
}
