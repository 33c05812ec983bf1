/** Makes the root file system of the virtual machine: Busybox, Deno, modules of the kernel, tests. */
import type { Kernel } from "./debian_kernel.ts";
import { BEGIN, END, VERSION } from "./machine.ts";
import { run } from "./run.ts";

/** Tests that need nothing of the host but a kernel. */
const tests = ["ebpf_engine_test"];

/** What the tests start or read beside their own code. */
const support = ["tests/support/ebpf_stress.ts", "tests/support/ebpf_stress_thread.ts"];

/** Modules that the kernel does not ask for by itself. */
const modules = [
  "veth",
  "nf_tables",
  "nft_chain_nat",
  "nft_redir",
  "nft_ct",
  "nf_conntrack_netlink",
];

/**
 * Makes it.
 *
 * @param root The repository.
 * @param work An empty folder.
 * @returns Path of the archive.
 */
export async function makeInitramfs(root: string, kernel: Kernel, work: string): Promise<string> {
  const tree = `${work}/root`;
  for (
    const folder of ["bin", "sbin", "tests/support", "proc", "sys", "dev", "tmp", "run", "root"]
  ) {
    await Deno.mkdir(`${tree}/${folder}`, { recursive: true });
  }
  await Deno.copyFile("/bin/busybox", `${tree}/bin/busybox`);
  // Where the kernel asks for modules.
  await Deno.symlink("/bin/busybox", `${tree}/sbin/modprobe`);
  await copyProgram(Deno.execPath(), `${tree}/bin/deno`, tree);
  await copyProgram("/bin/bash", `${tree}/bin/bash`, tree);
  for (const name of tests) await bundle(root, `tests/${name}.ts`, `${tree}/tests/${name}.js`);
  for (const path of support) await bundle(root, path, `${tree}/${path}`);
  await run("cp", ["-r", `${root}tests/vectors`, tree]);
  await run("cp", ["-r", `${root}tests/vectors`, `${tree}/tests`]);
  const release = kernel.modules.slice(kernel.modules.lastIndexOf("/") + 1);
  const target = `${tree}/lib/modules/${release}/kernel`;
  await Deno.mkdir(`${target}/drivers`, { recursive: true });
  for (const part of ["net", "lib", "crypto", "drivers/net"]) {
    await run("cp", ["-r", `${kernel.modules}/kernel/${part}`, `${target}/${part}`]);
  }
  await run("/bin/busybox", ["depmod", "-b", tree, release]);
  await Deno.writeTextFile(`${tree}/init`, initScript());
  await Deno.chmod(`${tree}/init`, 0o755);
  const archive = `${work}/initramfs.cpio`;
  await run("sh", [
    "-c",
    `find . | /bin/busybox cpio -o -H newc > ${JSON.stringify(archive)}`,
  ], tree);
  return archive;
}

async function bundle(root: string, source: string, target: string): Promise<void> {
  await run(Deno.execPath(), ["bundle", "--quiet", "--output", target, source], root);
}

/** Copies a program and the libraries that it is linked with. */
async function copyProgram(program: string, target: string, tree: string): Promise<void> {
  await Deno.copyFile(program, target);
  const listed = await run("ldd", [program]);
  for (const [path] of listed.matchAll(/\/\S+\.so\S*/g)) {
    await Deno.mkdir(`${tree}${path.slice(0, path.lastIndexOf("/"))}`, { recursive: true });
    await Deno.copyFile(await Deno.realPath(path), `${tree}${path}`);
  }
}

function initScript(): string {
  return `#!/bin/busybox sh
busybox() { /bin/busybox "$@"; }
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmp /tmp
busybox mount -t tmpfs run /run
busybox mkdir -p /dev/shm
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
busybox mount -t bpf bpf /sys/fs/bpf
busybox ip link set lo up
for module in ${modules.join(" ")}; do busybox modprobe "$module"; done
echo "${VERSION}$(busybox uname -r)"
export HOME=/root DENO_DIR=/tmp/deno NO_COLOR=1 PATH=/bin:/sbin
cd /tests
deno test -A --no-check --junit-path /tmp/report.xml ${
    tests.map((name) => `${name}.js`).join(" ")
  } </dev/null
echo "${BEGIN}"
busybox cat /tmp/report.xml
echo "${END}"
busybox poweroff -f
`;
}
