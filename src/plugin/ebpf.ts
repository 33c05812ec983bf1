/** The engine `ebpf` in one call of the plugin: whether it is asked for, from settings and pod. */
import type { EbpfForPod } from "../engine/choice/ebpf.ts";
import { OtherEngineError } from "../engine/choice/nftables_alone.ts";
import type { Redirect } from "../pod/decision.ts";
import { EBPF_ANNOTATION, EBPF_SETTING } from "../pod/ebpf_wish.ts";
import type { Call } from "./call.ts";
import { BPFFS, hasPins } from "./pins.ts";

/**
 * Returns the engine for the call's pod when it is asked for, or when it has been used on this node:
 * a cgroup outlives the pod's sandboxes, so that programs of an earlier one may be there.
 *
 * @throws when the call is served by a program that cannot use this engine.
 */
export async function ebpfForPod(call: Call, decision: Redirect): Promise<EbpfForPod | undefined> {
  const { settings, request: { environment } } = call;
  const wanted = settings.engine === "ebpf"
    ? decision.ebpf !== "disabled"
    : decision.ebpf === "enabled";
  if (decision.ebpf === "not allowed" && !wanted) {
    call.log.warn(
      `Annotation "${EBPF_ANNOTATION}" has no effect: an administrator can permit it with ` +
        `"${EBPF_SETTING}" in allow_pod_settings of the network configuration`,
    );
  }
  const bpffs = settings.ebpfBpffsPath ?? BPFFS;
  if (!wanted && !hasPins(bpffs)) return undefined;
  if (call.host !== undefined) {
    return call.host.inPodNamespace(settings, () => {
      throw new OtherEngineError('The engine "ebpf" would be needed');
    });
  }
  const [{ EbpfForPod }, engine] = await Promise.all([
    import("../engine/choice/ebpf.ts"),
    import("../engine/ebpf/ebpf_engine.ts"),
  ]);
  // What the runtime tells is kubelet's own word, of static pods, too.
  const podUid = call.args.podUid ?? decision.kubeletUid;
  return new EbpfForPod(engine, {
    wanted,
    because: decision.ebpf === "enabled"
      ? "the pod asks for it"
      : "the network configuration says so",
    strict: settings.ebpfStrict,
    containerId: environment.containerId,
    bpffs,
    ...(podUid === undefined ? {} : { podUid }),
    ...(settings.ebpfCgroupPath === undefined ? {} : { cgroupRoot: settings.ebpfCgroupPath }),
  });
}
