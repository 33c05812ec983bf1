/**
 * Measures the running install-cni: how soon a foreign rewrite is repaired, and what the process costs
 * while nothing happens. On a folder of its own on disk; nothing of the machine is touched.
 */
import { exists } from "../../tests/support/files.ts";
import { authority } from "../../tests/support/installer_host.ts";
import { buildIfStale } from "../build.ts";
import { printTable, quantile } from "./lib/table.ts";

const processes = 3;
/** Per process; further ones in quick succession would count as contention. */
const rewrites = 80;
const idleSeconds = 30;

const conflist = `{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "calico", "mtu": 1440},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`;
const networkConfig = JSON.stringify({
  cniVersion: "0.3.1",
  name: "kuma-cni",
  type: "kuma-cni",
  log_level: "info",
  kubernetes: {
    kubeconfig: "__KUBECONFIG_FILEPATH__",
    cni_bin_dir: "/opt/cni/bin",
    exclude_namespaces: ["kube-system"],
  },
});

/** Prints the tables. */
export async function bench(): Promise<void> {
  const program = await buildIfStale("install-cni");
  const latencies: number[] = [];
  let idle = { cpu: 0, resident: 0, peak: 0 };
  for (let i = 0; i < processes; i++) {
    const root = await Deno.makeTempDir({ prefix: "kuma-bench-" });
    const agent = await start(program, root);
    try {
      for (let round = 0; round < rewrites; round++) {
        await sleep(20 + Math.random() * 20);
        latencies.push(await rewriteAndWait(`${root}/net.d/10-calico.conflist`));
      }
      if (i === 0) idle = await measureIdle(agent.pid);
    } finally {
      agent.kill("SIGKILL");
      await agent.status;
      await Deno.remove(root, { recursive: true });
    }
  }
  printTable(
    `install-cni: from a foreign rewrite to re-chained, ${latencies.length} rewrites (ms)`,
    [
      ["", "median", "p99", "maximum"],
      [
        "measured",
        ...[0.5, 0.99, 1].map((share) => quantile(latencies, share).toFixed(1)),
      ],
      ["target", "<= 30", "<= 150", ""],
    ],
  );
  printTable(`install-cni: ${idleSeconds} s without events`, [
    ["", "CPU %", "resident MiB", "peak MiB"],
    ["measured", idle.cpu.toFixed(2), idle.resident.toFixed(1), idle.peak.toFixed(1)],
    ["target", "<= 0.2", "<= 64", ""],
  ]);
}

async function start(program: string, root: string): Promise<Deno.ChildProcess> {
  for (const folder of ["net.d", "bin", "image", "secrets"]) await Deno.mkdir(`${root}/${folder}`);
  await Deno.writeTextFile(`${root}/net.d/10-calico.conflist`, conflist);
  await Deno.writeTextFile(`${root}/image/kuma-cni`, "#!/bin/sh\n", { mode: 0o755 });
  await Deno.writeTextFile(`${root}/secrets/token`, "token");
  await Deno.writeTextFile(`${root}/secrets/ca.crt`, authority);
  const process = new Deno.Command(program, {
    clearEnv: true,
    env: {
      CNI_NETWORK_CONFIG: networkConfig,
      MOUNTED_CNI_NET_DIR: `${root}/net.d`,
      MOUNTED_CNI_BIN_DIR: `${root}/bin`,
      CNI_SOURCE_DIR: `${root}/image`,
      KUBE_CA_FILE: `${root}/secrets/ca.crt`,
      KUBE_SERVICE_ACCOUNT_TOKEN_PATH: `${root}/secrets/token`,
      KUBERNETES_SERVICE_HOST: "127.0.0.1",
      KUBERNETES_SERVICE_PORT: "1",
      READY_FILE: `${root}/ready`,
    },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  while (!exists(`${root}/ready`)) await sleep(5);
  return process;
}

/** Rewrites the list as another program would, and returns the milliseconds until it is chained. */
async function rewriteAndWait(path: string): Promise<number> {
  const temporary = `${path}.new`;
  Deno.writeTextFileSync(temporary, conflist);
  Deno.renameSync(temporary, path);
  const begin = performance.now();
  while (!Deno.readTextFileSync(path).includes('"kuma-cni"')) {
    if (performance.now() - begin > 10_000) throw new Error("The list was not chained within 10 s");
    await sleep(1);
  }
  return performance.now() - begin;
}

async function measureIdle(
  pid: number,
): Promise<{ cpu: number; resident: number; peak: number }> {
  // What the start leaves to be done later, such as collecting its garbage, is over then.
  await sleep(30_000);
  const before = cpuMilliseconds(pid);
  await sleep(idleSeconds * 1000);
  const cpu = (cpuMilliseconds(pid) - before) / (idleSeconds * 10);
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const mebibytes = (key: string) =>
    Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) / 1024;
  return { cpu, resident: mebibytes("VmRSS"), peak: mebibytes("VmHWM") };
}

/** CPU time of all threads (proc(5), schedstat: nanoseconds on a CPU). */
function cpuMilliseconds(pid: number): number {
  let sum = 0;
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    sum += Number(Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[0]);
  }
  return sum / 1e6;
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
