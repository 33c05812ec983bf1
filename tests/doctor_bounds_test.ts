/** `install-cni doctor` where everything is slow, endless or too much: it answers in time, in little memory. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { pathsOf } from "../installer/settings/paths.ts";
import { compiledInstaller } from "./support/compiled.ts";
import { DoctorBed, type DoctorNode, nodeName } from "./support/doctor_bed.ts";
import "./support/load_libc.ts";
import { injectedPod } from "./support/pods.ts";
import { measure, type MeasuredRun } from "./support/peak_memory.ts";
import { Surroundings } from "./support/surroundings.ts";

/** Milliseconds that the worst may cost more than an ordinary look, and MiB that none may need. */
const longest = 2000;
const largest = 160;

interface Trouble {
  readonly node?: DoctorNode;
  readonly breaks: (bed: DoctorBed) => void;
  /** Shell lines that prepare a network of its own. */
  readonly network?: string;
  readonly code: 0 | 1 | 2;
  readonly says: RegExp;
}

const folder = "/etc/cni/net.d";

function fifo(path: string): void {
  Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  equal(new Deno.Command("mkfifo", { args: [path] }).outputSync().code, 0);
}

/** Many names of one file are as many files to whoever reads them. */
function fill(bed: DoctorBed, path: string, text: string, count: number, ending: string): void {
  bed.write(`${path}0${ending}`, text);
  for (let i = 1; i < count; i++) {
    Deno.linkSync(bed.path(`${path}0${ending}`), bed.path(`${path}${i}${ending}`));
  }
}

const letters = (count: number) => "A".repeat(count);
const list = (text: string) =>
  `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"x","a":"${text}"}]}`;
const result = (text: string) =>
  `{"kind":"cniCacheV1","cniArgs":[["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","b"]],"config":"${text}"}`;
const healthy = /^Healthy: meshed pods that start now are captured/;

const troubles: Readonly<Record<string, Trouble>> = {
  "the API server's network swallows packets": {
    node: { environment: { KUBERNETES_SERVICE_HOST: "10.99.0.2" } },
    breaks: () => {},
    // What goes to a neighbor that nobody is goes nowhere, and no answer comes.
    network: `ip link add hole type veth peer name end
      ip addr add 10.99.0.1/24 dev hole
      ip link set hole up; ip link set end up
      ip neigh add 10.99.0.2 lladdr 02:00:00:00:00:01 dev hole`,
    code: 2,
    says: /^Something is wrong: The API server does not answer in time/,
  },
  "the API server takes its time": {
    breaks: (bed) => bed.api.inject({ kind: "delay", milliseconds: 700 }),
    code: 1,
    says: /^Healthy: .*, but: The API server answers in ([789]|1\d)\d\d ms/,
  },
  "the API server's answer trickles in": {
    breaks: (bed) => bed.api.inject({ kind: "trickle", bytes: 10, milliseconds: 100 }),
    code: 0,
    says: healthy,
  },
  "10,000 configuration files": {
    breaks: (bed) => fill(bed, `${folder}/50-`, list("b"), 10_000, ".conflist"),
    code: 1,
    says: /^Healthy: .*, but: ".*" has 9745 configuration files besides the first 256, which alone/,
  },
  "300 configuration files of a MiB": {
    breaks: (bed) => fill(bed, `${folder}/50-`, list(letters(1_048_000)), 300, ".conflist"),
    code: 1,
    says: /^Healthy: .*, but: ".*" has 45 configuration files besides the first 256/,
  },
  "10,000 results of the runtime, large ones": {
    breaks: (bed) => fill(bed, "/var/lib/cni/results/k-", result(letters(250_000)), 10_000, ""),
    code: 0,
    says: healthy,
  },
  "10,000 drop-ins of CRI-O": {
    node: {
      environment: { CNI_RUNTIME: "cri-o" },
      files: { "/opt/cni/bin/calico": "", "/opt/cni/bin/portmap": "" },
    },
    breaks: (bed) => fill(bed, "/etc/crio/crio.conf.d/", "[crio.network]\n", 10_000, ""),
    code: 0,
    says: healthy,
  },
  "containerd's configuration imports itself": {
    breaks: (bed) =>
      fill(bed, "/etc/containerd/config", 'imports = ["/etc/containerd/*.toml"]\n', 3000, ".toml"),
    code: 0,
    says: healthy,
  },
  "a FIFO, a device, a loop, a folder and a GiB in the net dir": {
    breaks: (bed) => {
      fifo(bed.path(`${folder}/00-a.conflist`));
      Deno.symlinkSync("/dev/zero", bed.path(`${folder}/01-a.conflist`));
      Deno.symlinkSync("02-a.conflist", bed.path(`${folder}/02-a.conflist`));
      Deno.mkdirSync(bed.path(`${folder}/03-a.conflist`));
      bed.write(`${folder}/04-a.conflist`, "");
      Deno.truncateSync(bed.path(`${folder}/04-a.conflist`), 1 << 30);
    },
    code: 2,
    says:
      /^Something is wrong: Waiting for "00-a\.conflist" to be readable: It is not a regular file/,
  },
  "our own list has a GiB": {
    breaks: (bed) => Deno.truncateSync(bed.path(`${folder}/10-calico.conflist`), 1 << 30),
    code: 2,
    says: /^Something is wrong: Waiting for .* to be readable: It has 1073741824 bytes, at most/,
  },
  "FIFOs where the runtime, kubelet, Cilium and we ourselves have files": {
    breaks: (bed) => {
      const { stateDir } = pathsOf(bed.settings);
      for (
        const path of [
          "/etc/containerd/config.toml",
          "/var/lib/kubelet/config.yaml",
          "/run/cilium/state/globals/node_config.h",
        ]
      ) fifo(bed.path(path));
      fifo(`${stateDir}/changes.json`);
      Deno.removeSync(`${stateDir}/journal.json`);
      fifo(`${stateDir}/journal.json`);
      Deno.mkdirSync(`${stateDir}/ledger`);
      fifo(`${stateDir}/ledger/a@eth0`);
    },
    code: 1,
    says:
      /^Healthy: .*, but: Cannot read "\/etc\/containerd\/config\.toml" of containerd: it may not/,
  },
  "FIFOs in place of the kubeconfig, the token and the program": {
    breaks: (bed) => {
      const { kubeconfig, plugin } = pathsOf(bed.settings);
      for (const path of [kubeconfig, plugin, bed.settings.tokenFile]) {
        Deno.removeSync(path);
        fifo(path);
      }
    },
    code: 2,
    says: /^Something is wrong: ".*\/kuma-cni" is not the one that this install-cni brings/,
  },
  "a file in place of our folder": {
    breaks: (bed) => {
      const { stateDir } = pathsOf(bed.settings);
      bed.stopAgent();
      Deno.removeSync(stateDir, { recursive: true });
      Deno.writeTextFileSync(stateDir, "");
    },
    code: 1,
    says: /^Healthy: .*, but: The node agent does not answer at its socket \(Not a directory/,
  },
};

let ordinary: MeasuredRun | undefined;

async function look(bed: DoctorBed, entrance: readonly string[] = []): Promise<MeasuredRun> {
  const path = "/usr/sbin:/usr/bin:/sbin:/bin";
  const command = [await compiledInstaller(), "doctor"];
  return await measure([...entrance, ...command], { ...bed.environment, PATH: path });
}

for (const [name, { node, breaks, network, code, says }] of Object.entries(troubles)) {
  Deno.test(`doctor answers in time and in little memory: ${name}`, async () => {
    await using bed = await DoctorBed.make({ ...node, parent: "/tmp" });
    ordinary ??= await look(bed);
    breaks(bed);
    await using own = network === undefined
      ? undefined
      : await Surroundings.make(["network"], network);
    const run = await look(bed, own?.entrance);
    match(run.stdout.split("\n")[0]!, says, run.stderr);
    // While all cores are busy even an API server at hand answers slowly.
    equal(run.stdout.includes("[api-slow]") ? code : run.code, code, run.stdout);
    // What it only waited for a processor is not its fault.
    const time = run.milliseconds - run.starved;
    ok(time - ordinary.milliseconds < longest, `It took ${time} ms`);
    ok(run.mebibytes > 30 && run.mebibytes < largest, `It took ${run.mebibytes} MiB`);
  });
}

Deno.test("the file of the settings is looked at wherever it stands among many", async () => {
  await using bed = await DoctorBed.make({
    environment: { CNI_CONF_NAME: "99-net.conflist", CNI_CONF_NAME_IS_LOADED: "true" },
    list: ["99-net.conflist", list("b")],
  });
  fill(bed, `${folder}/50-`, list("c"), 300, ".conflist");
  bed.write(`${folder}/99-net.conflist`, list("b"));
  const troubles = async () => (await bed.troubles()).filter((code) => code !== "api-slow");
  deepEqual(await troubles(), ["entry-missing", "warning"]);
  await bed.install();
  deepEqual(await troubles(), ["warning"]);
});

Deno.test("doctor calls a pod unseen, and no more, for whose result there was no time", async () => {
  const pod = injectedPod({ namespace: "shop", name: "web-0", nodeName });
  await using bed = await DoctorBed.make({ parent: "/tmp", objects: [pod] });
  fill(bed, "/var/lib/cni/results/k-", result(letters(250_000)), 10_000, "");
  const run = await measure([await compiledInstaller(), "doctor", "shop/web-0"], bed.environment);
  match(run.stdout, /^shop\/web-0 is meshed; whether it was captured cannot be seen here\n/);
  match(run.stdout, /there was no time for \d+ of the runtime's results$/m);
  equal(run.code, 0);
});

/** A disk of some 4 MB/s, for whoever is started with it: each read of a large piece takes a while. */
const slowReads = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
ssize_t read(int file, void *buffer, size_t length) {
  static ssize_t (*next)(int, void *, size_t);
  if (!next) next = dlsym(RTLD_NEXT, "read");
  if (length >= 1 << 20) usleep(250000);
  return next(file, buffer, length);
}
`;

Deno.test("doctor hears the API server also while the disk is slow", async () => {
  await using bed = await DoctorBed.make({ parent: "/tmp" });
  const program = bed.path("/opt/cni/bin/kuma-cni");
  for (const path of [`${bed.settings.sourceDir}/kuma-cni`, program]) {
    Deno.truncateSync(path, 1 << 27);
  }
  const library = `${bed.host.root}/slow`;
  Deno.writeTextFileSync(`${library}.c`, slowReads);
  const compiled = await new Deno.Command("gcc", {
    args: ["-shared", "-fPIC", "-o", `${library}.so`, `${library}.c`, "-ldl"],
  }).output();
  ok(compiled.success, new TextDecoder().decode(compiled.stderr));
  const command = [await compiledInstaller(), "doctor"];
  const run = await measure(command, {
    ...bed.environment,
    PATH: "/usr/bin:/bin",
    LD_PRELOAD: `${library}.so`,
  });
  match(
    run.stdout,
    /^\? plugin +Whether ".*" is the one of this version cannot be seen here: comp/m,
  );
  match(run.stdout, /^✓ api +The API server answers this account in \d+ ms$/m);
  equal(run.code, 0, run.stdout);
  ok(run.milliseconds - run.starved < 3000, `It took ${run.milliseconds} ms`);
});
