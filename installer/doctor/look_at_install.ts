/** Looks at what is installed as install-cni does, but for no longer than the doctor may take. */
import { observe, type Observed } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import { PluginFiles } from "../host/plugin_files.ts";
import { pluginPlacesOf } from "../host/plugin_plan.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { LateError, within } from "./within.ts";

/** Milliseconds for comparing the program, which is large and may lie on a slow disk. */
const comparisonPatience = 1300;

class BoundedPluginFiles extends PluginFiles {
  isLate = false;

  constructor(
    private readonly patience: number,
    private readonly meanwhile: Promise<unknown>,
    ...parts: ConstructorParameters<typeof PluginFiles>
  ) {
    super(...parts);
  }

  override async inspect(): ReturnType<PluginFiles["inspect"]> {
    try {
      const [state] = await Promise.all([within(this.patience, super.inspect()), this.meanwhile]);
      return state;
    } catch (error) {
      this.isLate = error instanceof LateError;
      await this.meanwhile;
      throw error;
    }
  }
}

/**
 * Looks at the host. A program that could not be compared in time is `unseen`: on a busy node with a slow
 * disk a sound one was called wrong.
 *
 * @param meanwhile What goes on while the program is compared, and is waited for before files are read.
 */
export async function lookAtInstall(
  operations: Operations,
  settings: Settings,
  sourceDir: string,
  meanwhile: Promise<unknown> = Promise.resolve(),
  patience = comparisonPatience,
): Promise<Observed> {
  const places = pluginPlacesOf(settings, sourceDir);
  const files = new BoundedPluginFiles(patience, meanwhile, operations, places);
  const observed = await observe(operations, settings, files);
  if (!files.isLate) return observed;
  // Whether it is there at all takes no time.
  if (!files.isThere) {
    return { ...observed, plugin: { kind: "missing", path: pathsOf(settings).plugin } };
  }
  const reason = `comparing it took longer than ${patience} ms`;
  return { ...observed, plugin: { kind: "unseen", reason } };
}
