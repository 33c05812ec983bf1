/**
 * A task that makes what a task of this project can make, of names that its caller gives, says so,
 * and then waits for ever. Arguments: a name for a network namespace; "fail" to end at once instead.
 */
import { supervise } from "../../scripts/supervise.ts";
import { createNamespace } from "./topology.ts";

const [name = "", ending] = Deno.args;

await supervise(import.meta.url, async () => {
  const folder = Deno.makeTempDirSync();
  Deno.writeTextFileSync(`${folder}/file`, "text");
  if (Deno.uid() === 0) {
    createNamespace(name);
    await new Deno.Command("mount", { args: ["-t", "tmpfs", name, folder] }).output();
  }
  // In a session of its own and without a living parent, as containerd's shims are.
  const script = `(setsid sleep 1000 >/dev/null 2>&1 &) ; sleep 0.1`;
  await new Deno.Command("sh", { args: ["-c", script], stdin: "null" }).output();
  new Deno.Command("sleep", { args: ["1000"], stdin: "null" }).spawn();
  console.log("made");
  if (ending === "fail") throw new Error("The work went wrong");
  await new Promise((resolve) => setTimeout(resolve, 1e6));
  return 0;
});
