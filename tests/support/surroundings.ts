/** Namespaces of a process of one's own, for programs that shall meet another kernel state; they go with it. */
import { ok } from "node:assert/strict";

/** What a process has for itself. */
export type Surrounding = "mount" | "user" | "network";

const flags: Readonly<Record<Surrounding, readonly string[]>> = {
  mount: ["--mount"],
  user: ["--user", "--map-root-user"],
  network: ["--net"],
};

/** Namespaces that stay until they are disposed of. */
export class Surroundings implements AsyncDisposable {
  private constructor(
    private readonly holder: Deno.ChildProcess,
    private readonly kinds: readonly Surrounding[],
  ) {}

  /**
   * Makes namespaces.
   *
   * @param setup Lines of a shell that prepare them from within.
   */
  static async make(kinds: readonly Surrounding[], setup: string): Promise<Surroundings> {
    const holder = new Deno.Command("unshare", {
      args: [
        ...kinds.flatMap((kind) => flags[kind]),
        "sh",
        "-ec",
        `${setup}\necho ready; read end`,
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const surroundings = new Surroundings(holder, kinds);
    const reader = holder.stdout.getReader();
    const { value } = await reader.read();
    reader.releaseLock();
    if (value === undefined) {
      const problem = await new Response(holder.stderr).text();
      await holder.stdin.close().catch(() => {});
      await holder.status;
      ok(false, `Cannot make ${kinds.join(", ")} namespaces: ${problem}`);
    }
    return surroundings;
  }

  /** Words in front of a command that is to run there. */
  get entrance(): readonly string[] {
    const enters = this.kinds.map((kind) => flags[kind][0]!);
    return ["nsenter", "--target", `${this.holder.pid}`, ...enters, "--"];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.holder.stdin.close();
    await Promise.all([this.holder.stdout.cancel(), this.holder.stderr.cancel()]);
    await this.holder.status;
  }
}

/** Error numbers of a kernel without the module, and of a security module. */
export const EPROTONOSUPPORT = 93;
export const EACCES = 13;

/**
 * Words in front of a command which the kernel refuses Netfilter netlink with an error, by a filter of
 * system calls. Facts: seccomp(2), `linux/seccomp.h`; the numbers are those of x86-64: socket is 41,
 * prctl 157, AF_NETLINK 16, NETLINK_NETFILTER 12.
 */
export const withoutNetfilter = (error: number): readonly string[] => [
  "perl",
  "-e",
  `my $filter = join '', map { pack 'SCCL', @$_ }
     [0x20, 0, 0, 0], [0x15, 0, 5, 41], [0x20, 0, 0, 16], [0x15, 0, 3, 16],
     [0x20, 0, 0, 32], [0x15, 0, 1, 12], [0x06, 0, 0, 0x50000 | ${error}], [0x06, 0, 0, 0x7fff0000];
   my $program = pack 'Sx6P', length($filter) / 8, $filter;
   syscall(157, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
   syscall(157, 22, 2, $program) == 0 or die "seccomp: $!";
   exec @ARGV or die $!;`,
];
