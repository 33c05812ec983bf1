/** DEL and GC: the ledger forgets what goes. Nothing here may fail a call, nor wait for anybody. */
import type { CniRequest } from "../cni/serve.ts";
import { isRecord, own } from "../json/record.ts";
import { stateFolderOf } from "../log/file.ts";

/**
 * Removes the entries of a DEL's attachment, or of those that a GC does not call valid.
 *
 * @param stateFolder The project's own folder; by default the host's, as the configuration names it.
 */
export async function forget(
  { environment, config }: CniRequest,
  stateFolder: string | undefined = folderIn(config.values),
): Promise<void> {
  if (stateFolder === undefined) return;
  const { readEntries, removeEntry } = await import("../ledger/folder.ts");
  if (environment.verb === "DEL") {
    const { containerId: sandbox, interfaceName } = environment;
    return removeEntry(stateFolder, { sandbox, interfaceName });
  }
  const valid = validAttachments(config.values);
  if (valid === undefined) return;
  for (const entry of readEntries(stateFolder).entries) {
    const isOver = entry.network === config.name &&
      !valid.has(`${entry.sandbox} ${entry.interfaceName}`);
    if (isOver) removeEntry(stateFolder, entry);
  }
}

/** What is wrong in the settings must not keep DEL from anything, so they are not checked here. */
function folderIn(values: Readonly<Record<string, unknown>>): string | undefined {
  const pathAt = (section: string, key: string): string | undefined => {
    const found = own(values, section);
    const path = isRecord(found) ? own(found, key) : undefined;
    return typeof path === "string" && path.startsWith("/") ? path : undefined;
  };
  return stateFolderOf(pathAt("kubernetes", "kubeconfig"), pathAt("agent", "socket"));
}

/** CNI 1.1.0, section 2, GC; `undefined` when the list is missing or not of its form. */
function validAttachments(values: Readonly<Record<string, unknown>>): Set<string> | undefined {
  const list = own(values, "cni.dev/valid-attachments");
  if (!Array.isArray(list)) return undefined;
  const valid = new Set<string>();
  for (const item of list) {
    const [sandbox, name] = isRecord(item) ? [own(item, "containerID"), own(item, "ifname")] : [];
    if (typeof sandbox !== "string" || typeof name !== "string") return undefined;
    valid.add(`${sandbox} ${name}`);
  }
  return valid;
}
