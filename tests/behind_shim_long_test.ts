/** Failing ADDs and traffic once more, through a shim that finds no agent: nothing may differ. */
import { startBehindShim } from "./support/compiled.ts";

startBehindShim();
await import("./add_failures_test.ts");
await import("./traffic_test.ts");
