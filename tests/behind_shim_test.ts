/** The tables of the protocol once more, through a shim that finds no agent: nothing may differ. */
import { startBehindShim } from "./support/compiled.ts";

startBehindShim();
await import("./cni_binary_test.ts");
await import("./plugin_output_test.ts");
await import("./status_test.ts");
