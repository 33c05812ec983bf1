/** install-cni among FIFOs and devices: it names them, goes on when they are gone, and can be stopped. */
import { equal, match, ok } from "node:assert/strict";
import { InstallerHost, primaryList, type RunningInstaller } from "./support/installer_host.ts";

const list = "10-calico.conflist";

const odd: Record<string, (path: string) => void> = {
  "a FIFO": (path) => ok(new Deno.Command("mkfifo", { args: [path] }).outputSync().success),
  "a link to /dev/zero": (path) => Deno.symlinkSync("/dev/zero", path),
};

const places: Record<string, (host: InstallerHost) => string> = {
  "the token": (host) => `${host.secrets}/token`,
  "the certificate authority": (host) => `${host.secrets}/ca.crt`,
  "the primary plugin's list": (host) => `${host.netDir}/${list}`,
  "the kubeconfig": (host) => `${host.netDir}/ZZZ-kuma-cni-kubeconfig`,
  "the journal": (host) => `${host.netDir}/kuma-cni.d/journal.json`,
  "the plugin of the image": (host) => `${host.sourceDir}/kuma-cni`,
};

/** Puts something odd where a file was, and returns what undoes it. */
function replace(path: string, make: (path: string) => void): () => void {
  const kept = `${path}.kept`;
  const folder = path.slice(0, path.lastIndexOf("/"));
  Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
  let existed = true;
  try {
    Deno.renameSync(path, kept);
  } catch {
    existed = false;
  }
  make(path);
  return () => {
    Deno.removeSync(path);
    if (existed) Deno.renameSync(kept, path);
  };
}

/** SIGTERM must end it, whatever it waits for. */
async function stop(agent: RunningInstaller): Promise<void> {
  const started = performance.now();
  const late = setTimeout(() => agent.process.kill("SIGKILL"), 20_000);
  const code = await agent.terminate();
  clearTimeout(late);
  equal(code, 0, agent.stderr);
  ok(performance.now() - started < 19_000, agent.stderr);
}

for (const [what, make] of Object.entries(odd)) {
  for (const [where, pathOf] of Object.entries(places)) {
    Deno.test(`install-cni goes on when ${where} has been ${what}, and can be stopped`, async () => {
      await using host = new InstallerHost();
      host.writeConf(list, primaryList);
      const undo = replace(pathOf(host), make);
      const first = host.start();
      // Nothing is installed from this, or all is: the journal is not needed for it.
      await first.until("it has looked", () => host.isReady || first.stderr.includes("WARN"));
      if (!host.isReady) match(first.stderr, /regular file|no file|not a regular/);
      await stop(first);
      undo();
      const second = host.start();
      await second.until("ready", () => host.isReady);
      await stop(second);
    });
  }
}
