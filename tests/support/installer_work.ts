/**
 * One piece of the installer's work on a test host, in this process or in one that kills itself:
 * `deno run installer_work.ts <work> <operation number, or file> <JSON of the environment>`; given a file,
 * it kills itself before it changes that one.
 */
import { Operations } from "../../installer/host/operations.ts";
import { Reconciler } from "../../installer/loop/reconcile.ts";
import { recover } from "../../installer/loop/recover.ts";
import { parseSettings } from "../../installer/settings/settings.ts";
import { type Settings } from "../../installer/settings/declarations.ts";
import { uninstall } from "../../installer/loop/uninstall.ts";
import { Logger } from "../../src/log/log.ts";
import { libc } from "../../src/linux/libc.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

/** What can be done. */
export type Work = "install" | "uninstall";

const quiet = new Logger("install-cni", "off", () => {});

/**
 * Does the work to its end.
 *
 * @returns What is wrong afterwards; `undefined` when everything is done.
 */
export async function doWork(
  work: Work,
  settings: Settings,
  operations: Operations,
): Promise<string | undefined> {
  if (work === "uninstall") {
    await uninstall(settings, operations, quiet, { settle: 0, patience: 0 });
    return undefined;
  }
  const reconciler = new Reconciler(settings, operations, settings.sourceDir, quiet);
  recover(settings, operations, quiet);
  const pass = await reconciler.pass();
  return pass.ready ? undefined : pass.reason;
}

if (import.meta.main) {
  const [work, killAt, json] = Deno.args;
  const environment = JSON.parse(json!);
  const settings = parseSettings(({ variable }) => environment[variable]);
  let count = 0;
  const operations = new Operations(({ changes, path }) => {
    if (changes && (++count === Number(killAt) || path === killAt)) Deno.kill(Deno.pid, "SIGKILL");
  });
  const problem = await doWork(work as Work, settings, operations);
  if (problem !== undefined) throw new Error(problem);
}
