/** Runs the virtual machine and reads what it says on its console. */

/** Lines of the console that mean something. */
export const VERSION = "kuma-cni-kernel-version ";
export const BEGIN = "kuma-cni-report-begin";
export const END = "kuma-cni-report-end";

/** Longest run, in milliseconds; it takes about one minute on two processors. */
const PATIENCE = 10 * 60_000;

/** What came of a run. */
export interface MachineRun {
  /** JUnit report of the tests; empty when the machine did not get so far. */
  readonly report: string;
  /** Release of the kernel, as it calls itself. */
  readonly version: string;
  /** All that stood on the console. */
  readonly console: string;
}

/**
 * Starts a machine with a kernel and a root file system, and waits for its end. qemu emulates
 * its processor: KVM is seldom there in machines that are virtual themselves, or hangs there.
 */
export async function runMachine(image: string, initramfs: string): Promise<MachineRun> {
  const child = new Deno.Command("qemu-system-x86_64", {
    args: [
      ...["-accel", "tcg,thread=multi", "-cpu", "max"],
      ...["-smp", "2", "-m", "2G", "-nodefaults", "-no-reboot", "-display", "none"],
      ...["-serial", "stdio", "-nic", "none"],
      ...["-kernel", image, "-initrd", initramfs],
      ...["-append", "console=ttyS0 panic=-1 edd=off"],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
  try {
    const { stdout } = await child.output();
    return readConsole(new TextDecoder().decode(stdout));
  } finally {
    clearTimeout(timer);
  }
}

/** Finds in the console's text what is asked for. */
export function readConsole(text: string): MachineRun {
  const lines = text.replaceAll("\r", "");
  const begin = lines.lastIndexOf(`${BEGIN}\n`);
  const end = lines.lastIndexOf(END);
  return {
    report: begin === -1 || end < begin ? "" : lines.slice(begin + BEGIN.length + 1, end),
    version: new RegExp(`^${VERSION}(.*)$`, "m").exec(lines)?.[1] ?? "unknown",
    console: lines,
  };
}
