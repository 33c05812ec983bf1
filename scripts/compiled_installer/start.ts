/**
 * Entry of the compiled file `install-cni`, which holds both programs: install-cni, and under the name
 * `kuma-cni` the plugin. So an image has the runtime, nearly all of a program's bytes, only once, with
 * two names for one file. What install-cni puts on a host is the plugin of its own, which starts
 * faster (`scripts/bytecode.ts`).
 */
if (Deno.execPath().endsWith("/kuma-cni")) {
  await import("../../main.ts");
} else {
  const { commandLine } = await import("../../installer/main.ts");
  await commandLine().parseAsync(Deno.args, { from: "user" });
}
