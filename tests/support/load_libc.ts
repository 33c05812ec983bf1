/**
 * Loads the C library once for the process, which is never unloaded: a test that happens to be the
 * first to need it must not be blamed for that. For its effect alone.
 */
import { fileClock } from "../../src/linux/file_clock.ts";
import { exchangeFiles } from "../../src/linux/file_exchange.ts";
import { libc } from "../../src/linux/libc.ts";
import { PassingPages } from "../../src/linux/page_cache.ts";
import { runProgram } from "../../src/linux/process.ts";

libc();
fileClock();
runProgram({ path: "/bin/true", args: [], env: {} }, 10_000);
new PassingPages("/dev/null", 1)[Symbol.dispose]();
try {
  exchangeFiles("/nonexistent/one", "/nonexistent/other");
} catch {
  // There is nothing to exchange.
}
