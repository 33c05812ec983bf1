/** Looks at what is installed as install-cni does, but for no longer than the doctor may take. */
import { observe, type Observed } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import { PluginFiles } from "../host/plugin_files.ts";
import { pluginPlacesOf } from "../host/plugin_plan.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { LateError, within } from "./within.ts";

/** Milliseconds for comparing the program, which is large and may lie on a slow disk. */
export const comparisonPatience = 1400;

class BoundedPluginFiles extends PluginFiles {
  isLate = false;

  constructor(
    private readonly patience: number,
    ...parts: ConstructorParameters<typeof PluginFiles>
  ) {
    super(...parts);
  }

  override async inspect(): ReturnType<PluginFiles["inspect"]> {
    try {
      return await within(this.patience, super.inspect());
    } catch (error) {
      this.isLate = error instanceof LateError;
      throw error;
    }
  }
}

/**
 * Looks at the host. A program that could not be compared in time is `unseen`: on a busy node with a slow
 * disk a sound one was called wrong.
 */
export async function lookAtInstall(
  operations: Operations,
  settings: Settings,
  sourceDir: string,
  patience = comparisonPatience,
): Promise<Observed> {
  const places = pluginPlacesOf(settings, sourceDir);
  const files = new BoundedPluginFiles(patience, operations, places);
  const observed = await observe(operations, settings, files);
  if (!files.isLate) return observed;
  // Whether it is there at all takes no time.
  if (!files.isThere) {
    return { ...observed, plugin: { kind: "missing", path: pathsOf(settings).plugin } };
  }
  const reason = `comparing it took longer than ${Math.round(patience)} ms`;
  return { ...observed, plugin: { kind: "unseen", reason } };
}
