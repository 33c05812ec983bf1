/** Debian's containerd once more, with the full plugin where the runtime looks for it. */
import { installWithoutShim } from "./support/containerd_stage.ts";

installWithoutShim();
await import("./containerd_test.ts");
