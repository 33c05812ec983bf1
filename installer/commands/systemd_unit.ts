/** `install-cni systemd-unit`: prints a unit, for nodes where no DaemonSet runs this program. */
import type { Command } from "@commander-js/extra-typings";

/** Adds the command. */
export function register(program: Command): void {
  program.command("systemd-unit")
    .description("Print a systemd unit that keeps install-cni running, also after a reboot")
    .option("--program <path>", "this program's path on the node", Deno.execPath())
    // The program has an option of this name itself, which would take it away.
    .option("--settings <path>", "file with the settings", "/etc/kuma-cni/install-cni.env")
    .action(({ program, settings }) => {
      for (const path of [program, settings]) {
        if (/^\/[A-Za-z0-9._/@+-]*$/.test(path)) continue;
        console.error(
          `install-cni: ${
            JSON.stringify(path)
          } cannot stand in a unit, expected an absolute path of ` +
            "letters, digits and ._/@+-",
        );
        Deno.exit(1);
      }
      console.log(unitText(program, settings));
    });
}

/** Returns the unit's text, without the last line end. */
export function unitText(program: string, envFile: string): string {
  return `# Made by "install-cni systemd-unit".
[Unit]
Description=Node agent of the CNI plugin kuma-cni
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=${program} --env-file ${envFile}
RuntimeDirectory=kuma-cni
Restart=always
RestartSec=2
# A stop is no uninstallation, and asking the API server takes 2.5 s at most.
TimeoutStopSec=10

[Install]
WantedBy=multi-user.target`;
}
