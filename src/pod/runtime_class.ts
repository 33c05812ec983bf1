/** Runtime classes whose pods do not pass the rules of their network namespace. */
import { quote } from "../text/quote.ts";

/**
 * Tells when rules cannot reach a pod. Kata Containers hand packets between the namespace's interface
 * and a virtual machine below its rules, gVisor has a network stack of its own.
 *
 * @param name `spec.runtimeClassName`. The class's handler would tell for certain, but that takes
 * another right and question, so that the usual names decide.
 */
export function runtimeClassWarning(name: string | undefined): string | undefined {
  if (name === undefined || !/kata|gvisor|runsc/i.test(name)) return undefined;
  return `Rules cannot reach a pod of the runtime class ${quote(name)}: a virtual machine (Kata ` +
    "Containers) or a network stack of its own (gVisor) does not pass the rules of its network " +
    "namespace, so its traffic goes past the sidecar; give meshed pods another runtime class";
}
