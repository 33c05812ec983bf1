/**
 * `install-cni doctor` on nodes that are broken in each way, and on healthy ones of each platform. What
 * cannot be brought about here, such as a kernel without nf_tables, is put into what was seen.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { changeFindings } from "../installer/doctor/surroundings.ts";
import { diagnose, type Diagnosis } from "../installer/doctor/diagnosis.ts";
import { lookAtNode } from "../installer/doctor/look.ts";
import { writeChanges } from "../installer/host/changes.ts";
import { Reconciler } from "../installer/loop/reconcile.ts";
import { pathsOf } from "../installer/settings/paths.ts";
import { putEntry } from "../src/ledger/folder.ts";
import { DoctorBed, type DoctorNode, nodeName } from "./support/doctor_bed.ts";
import { primaryList, primarySingle, quietLog } from "./support/installer_host.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";
import "./support/load_libc.ts";
import { injectedPod, plainPod } from "./support/pods.ts";

const k3s = "/var/lib/rancher/k3s/agent/etc";
const list = (...types: string[]) =>
  JSON.stringify({ cniVersion: "1.0.0", name: "net", plugins: types.map((type) => ({ type })) });
const containerd2 = (netDir: string, binDir: string) =>
  `version = 2\n[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "${binDir}"\n` +
  `conf_dir = "${netDir}"\n`;
const containerd3 = (netDir: string, binDir: string) =>
  `version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['${binDir}']\n` +
  `conf_dir = '${netDir}'\n`;

/** Healthy nodes: files of each platform as platforms keep them. */
const healthy: Readonly<Record<string, DoctorNode>> = {
  "kubeadm": { files: { "/etc/containerd/config.toml": "version = 2\n" } },
  "kubeadm, containerd 2 with an import": {
    files: {
      "/etc/containerd/config.toml": 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
      "/etc/containerd/conf.d/cni.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin"),
    },
  },
  "kubeadm, CRI-O of an RPM": {
    binDir: "/usr/libexec/cni",
    files: {
      "/etc/crio/crio.conf": "[crio.network]\n",
      "/etc/crio/crio.conf.d/10-rpm": '[crio.network]\nplugin_dirs = ["/usr/libexec/cni"]\n',
      "/usr/libexec/cni/calico": "",
      "/usr/libexec/cni/portmap": "",
    },
  },
  "kind": {
    files: { "/etc/containerd/config.toml": "version = 2\n" },
    list: ["10-kindnet.conflist", list("ptp", "portmap")],
  },
  "minikube": { list: ["1-k8s.conflist", list("bridge", "portmap", "firewall")] },
  "k3s": {
    netDir: `${k3s}/cni/net.d`,
    binDir: "/var/lib/rancher/k3s/data/cni",
    files: {
      [`${k3s}/containerd/config.toml`]: containerd2(
        `${k3s}/cni/net.d`,
        "/var/lib/rancher/k3s/data/cni",
      ),
      "/run/k3s/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap", "bandwidth")],
  },
  "k3d before March 2025": {
    netDir: `${k3s}/cni/net.d`,
    binDir: "/bin",
    files: {
      [`${k3s}/containerd/config.toml`]: containerd3(`${k3s}/cni/net.d`, "/bin"),
      "/run/k3s/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "RKE2": {
    files: {
      "/var/lib/rancher/rke2/agent/etc/containerd/config.toml": containerd3(
        "/etc/cni/net.d",
        "/opt/cni/bin",
      ),
      "/run/k3s/containerd/containerd.sock": "",
    },
    list: ["10-canal.conflist", list("calico", "portmap")],
  },
  "k0s": {
    files: {
      "/etc/k0s/containerd.toml": "# k0s_managed=true\nversion = 3\n",
      "/run/k0s/containerd.sock": "",
    },
    list: ["10-kuberouter.conflist", list("bridge", "portmap")],
  },
  "Rancher Desktop": {
    binDir: "/usr/libexec/cni",
    files: {
      "/etc/containerd/config.toml": containerd2("/etc/cni/net.d", "/usr/libexec/cni"),
      "/run/containerd/containerd.sock": "",
      // k3s is there, and has its data; its containerd does not run.
      "/var/lib/rancher/k3s/server/token": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "Talos": {
    files: {
      "/etc/cri/containerd.toml": 'version = 3\nimports = ["/etc/cri/conf.d/cri.toml"]\n',
      "/etc/cri/conf.d/cri.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin"),
      "/run/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "GKE": {
    binDir: "/home/kubernetes/bin",
    files: {
      "/etc/containerd/config.toml": containerd2("/etc/cni/net.d", "/home/kubernetes/bin"),
    },
    list: ["10-gke-ptp.conflist", list("gke", "cilium-cni", "portmap")],
  },
  "EKS": {
    files: { "/etc/containerd/config.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin") },
    list: ["10-aws.conflist", list("aws-cni", "egress-cni", "portmap")],
  },
  "AKS, Cilium": {
    list: ["05-cilium.conflist", list("cilium-cni")],
    files: {
      "/var/run/cilium/state/globals/node_config.h": "#define ENABLE_SOCKET_LB_HOST_ONLY 1\n",
      "/etc/cni/net.d/10-azure.conflist.cilium_bak": list("azure-vnet"),
    },
  },
  "OpenShift behind Multus": {
    netDir: "/run/multus/cni/net.d",
    binDir: "/var/lib/cni/bin",
    environment: { CNI_RUNTIME: "multus" },
    list: [
      "10-ovn-kubernetes.conf",
      '{"cniVersion":"1.0.0","name":"o","type":"ovn-k8s-cni-overlay"}',
    ],
  },
  "Multus in front": {
    files: {
      "/etc/cni/net.d/00-multus.conf": JSON.stringify({
        cniVersion: "1.0.0",
        name: "multus",
        type: "multus",
        clusterNetwork: "/etc/cni/net.d/10-calico.conflist",
      }),
    },
  },
  "NodeLocal DNSCache under containerd": {
    files: {
      "/var/lib/kubelet/config.yaml": "kind: KubeletConfiguration\nclusterDNS:\n- 169.254.20.10\n",
    },
  },
};

for (const [name, node] of Object.entries(healthy)) {
  Deno.test(`doctor finds nothing wrong on a healthy node: ${name}`, async () => {
    await using bed = await DoctorBed.make(node);
    const { exitCode, verdict, findings } = await bed.diagnose();
    const wrong = findings.filter(({ grade }) => grade === "failure" || grade === "warning");
    // While all cores are busy even an API server at hand answers slowly.
    deepEqual(wrong.filter(({ code }) => code !== "api-slow"), []);
    equal(exitCode, wrong.length === 0 ? 0 : 1);
    match(verdict, /^Healthy: meshed pods that start now are captured/);
  });
}

const chained = "/etc/cni/net.d/10-calico.conflist";

/** One way in which a node breaks, and what is found then, most probable first. */
interface Broken {
  readonly node?: DoctorNode;
  readonly breaks?: (bed: DoctorBed) => void | Promise<void>;
  readonly finds: readonly string[];
  /** What the verdict says. */
  readonly says: RegExp;
}

const run: Record<string, Broken> = {
  "nothing is installed": {
    breaks: (bed) => {
      bed.write(chained, primaryList);
      Deno.removeSync(bed.path("/opt/cni/bin/kuma-cni"));
      Deno.removeSync(pathsOf(bed.settings).kubeconfig);
    },
    finds: ["not-installed"],
    says: /Nothing of kuma-cni is in/,
  },
  "another program wrote the list anew": {
    breaks: (bed) => bed.write(chained, primaryList),
    finds: ["entry-missing"],
    says: /10-calico\.conflist" lacks the entry of kuma-cni/,
  },
  "another plugin was put behind ours": {
    breaks: (bed) => {
      const value = JSON.parse(Deno.readTextFileSync(bed.path(chained)));
      value.plugins.push({ type: "tuning" });
      bed.write(chained, JSON.stringify(value));
    },
    finds: ["entry-wrong"],
    says: /another plugin behind it/,
  },
  "an entry that the plugin refuses": {
    breaks: (bed) =>
      bed.write(
        chained,
        Deno.readTextFileSync(bed.path(chained)).replace('"type": "kuma-cni"', "$&")
          .replace(/("exclude_namespaces": ?)\[[^\]]*\]/, "$1 5"),
      ),
    finds: ["entry-wrong", "entry-unreadable"],
    says: /another entry of kuma-cni than/,
  },
  "the program is gone": {
    breaks: (bed) => Deno.removeSync(bed.path("/opt/cni/bin/kuma-cni")),
    finds: ["plugin-missing"],
    says: /kuma-cni" is missing/,
  },
  "the program is another one": {
    breaks: (bed) => Deno.writeTextFileSync(bed.path("/opt/cni/bin/kuma-cni"), "#!/bin/false"),
    finds: ["plugin-differs"],
    says: /is not the one that this install-cni brings/,
  },
  "the net dir is another one, as with Cilium on k3s": {
    node: {
      files: {
        [`${k3s}/containerd/config.toml`]: containerd2(`${k3s}/cni/net.d`, "/opt/cni/bin"),
        "/run/k3s/containerd/containerd.sock": "",
      },
    },
    finds: ["net-dir-other"],
    says: /The runtime reads "\/var\/lib\/rancher\/k3s\/agent\/etc\/cni\/net\.d"/,
  },
  "the bin dir is another one on k3s": {
    node: {
      netDir: `${k3s}/cni/net.d`,
      files: {
        [`${k3s}/containerd/config.toml`]: containerd2(
          `${k3s}/cni/net.d`,
          "/var/lib/rancher/k3s/data/cni",
        ),
      },
    },
    finds: ["bin-dir-other"],
    says: /looks for plugins in "\/var\/lib\/rancher\/k3s\/data\/cni"/,
  },
  "Rancher Desktop with the folders of k3s": {
    node: {
      ...healthy["Rancher Desktop"],
      netDir: `${k3s}/cni/net.d`,
      binDir: "/var/lib/rancher/k3s/data/cni",
    },
    finds: ["bin-dir-other"],
    says: /looks for plugins in "\/usr\/libexec\/cni"/,
  },
  "MicroK8s was refreshed": {
    node: {
      netDir: "/var/snap/microk8s/1/args/cni-network",
      binDir: "/var/snap/microk8s/1/opt/cni/bin",
    },
    breaks: (bed) => {
      const snap = "/var/snap/microk8s";
      for (const part of ["args/cni-network", "opt/cni/bin"]) {
        Deno.mkdirSync(bed.path(`${snap}/2/${part}`), { recursive: true });
      }
      Deno.symlinkSync("2", bed.path(`${snap}/current`));
      bed.environment.CNI_NET_DIR = `${snap}/current/args/cni-network`;
    },
    finds: ["mount-moved", "entry-wrong"],
    says: /is another folder than the one that is mounted here/,
  },
  "the runtime loads another file first": {
    breaks: (bed) => bed.write("/etc/cni/net.d/00-other.conflist", list("other")),
    node: { environment: { CNI_CONF_NAME: "10-calico.conflist" } },
    finds: ["not-captured"],
    says: /loads "00-other\.conflist" before/,
  },
  "what Multus calls is not our file": {
    breaks: (bed) =>
      bed.write(
        "/etc/cni/net.d/00-multus.conf",
        '{"cniVersion":"1.0.0","name":"m","type":"multus","clusterNetwork":"some-definition"}',
      ),
    finds: ["not-captured"],
    says: /so what Multus calls is not known/,
  },
  "there is no list yet": {
    breaks: (bed) => Deno.removeSync(bed.path(chained)),
    finds: ["waiting"],
    says: /Waiting for another CNI plugin's configuration/,
  },
  "the plugin's own files cannot be read": {
    breaks: (bed) => void (bed.environment.CNI_SOURCE_DIR = `${bed.root}/nowhere`),
    finds: ["plugin-unknown", "waiting"],
    says: /Cannot find the plugin/,
  },
  "our list beside a single plugin's file is gone": {
    node: { list: ["10-cbr0.conf", primarySingle] },
    breaks: (bed) => Deno.removeSync(bed.path("/etc/cni/net.d/10-cbr0-kuma.conflist")),
    finds: ["file-wrong"],
    says: /10-cbr0-kuma\.conflist" is missing/,
  },
  "both containerd and CRI-O": {
    node: {
      files: {
        "/etc/containerd/config.toml": "version = 2\n",
        "/etc/crio/crio.conf": "[crio.network]\n",
        "/opt/cni/bin/calico": "",
        "/opt/cni/bin/portmap": "",
      },
    },
    finds: ["runtime-odd"],
    says: /, but: Both CRI-O .* and containerd .* are on this node/,
  },
  "the kubeconfig is another one": {
    breaks: (bed) => Deno.writeTextFileSync(pathsOf(bed.settings).kubeconfig, "kind: Config"),
    finds: ["kubeconfig-wrong"],
    says: /kubeconfig" has other content, mode or owner than it should/,
  },
  "the kubeconfig is gone": {
    breaks: (bed) => Deno.removeSync(pathsOf(bed.settings).kubeconfig),
    finds: ["kubeconfig-missing"],
    says: /kubeconfig" is missing/,
  },
  "the service account is not mounted": {
    breaks: (bed) => {
      Deno.removeSync(bed.settings.tokenFile);
      Deno.removeSync(bed.settings.caFile);
    },
    finds: ["token-unreadable", "authority-unreadable", "warning"],
    says: /, but: ".*token" is missing/,
  },
  "the token was revoked": {
    breaks: (bed) => void bed.api.rotateToken(),
    finds: ["api-down"],
    says: /refuses the service account's token \(401\)/,
  },
  "the API server is away": {
    breaks: (bed) => bed.api.close(),
    finds: ["api-down"],
    says: /The API server cannot be reached/,
  },
  "the API server hangs": {
    breaks: (bed) => bed.api.inject({ kind: "hang" }),
    finds: ["api-down"],
    says: /does not answer in time/,
  },
  "the API server is slow": {
    breaks: (bed) => bed.api.inject({ kind: "delay", milliseconds: 600 }, { verb: "get" }),
    finds: ["api-slow"],
    says: /, but: The API server answers in \d+ ms/,
  },
  "the right to get pods is missing": {
    breaks: (bed) => bed.api.forbid("get", "pods"),
    finds: ["right-missing"],
    says: /may not get pods \(403\)/,
  },
  "the agent is away": {
    breaks: (bed) => bed.stopAgent(),
    finds: ["agent-silent"],
    says: /, but: The node agent does not answer at its socket/,
  },
  "a pod runs without rules": {
    node: {
      objects: [
        injectedPod({ namespace: "shop", name: "web-0", nodeName }),
        injectedPod({ namespace: "shop", name: "web-1", nodeName }),
      ],
    },
    breaks: (bed) => {
      bed.cache("shop", "web-0", true);
      bed.cache("shop", "web-1", false);
    },
    finds: ["pods-not-captured"],
    says: /1 meshed pods run without rules: shop\/web-1$/,
  },
  "Cilium claims the folder": {
    breaks: (bed) => {
      const text = Deno.readTextFileSync(bed.path(chained));
      bed.write(`${chained}.cilium_bak`, text);
    },
    finds: ["cilium-exclusive"],
    says: /Cilium has put "10-calico\.conflist\.cilium_bak" aside/,
  },
  "socket load balancing in pods": {
    node: {
      files: { "/run/cilium/state/globals/node_config.h": "#define ENABLE_SOCKET_LB_FULL 1" },
    },
    finds: ["socket-lb"],
    says: /, but: Cilium translates Services at the sockets of pods/,
  },
  "kube-system is not excluded": {
    node: { kubernetes: { exclude_namespaces: ["default"] } },
    finds: ["kube-system-included"],
    says: /, but: "kube-system" is not in/,
  },
  "another mesh's plugin": {
    node: { list: ["10-calico.conflist", list("calico", "istio-cni")] },
    finds: ["other-mesh"],
    says: /, but: .* also calls "istio-cni" of Istio/,
  },
  "NodeLocal DNSCache under CRI-O": {
    node: {
      environment: { CNI_RUNTIME: "cri-o" },
      files: {
        "/var/lib/kubelet/config.yaml": "clusterDNS: [169.254.20.10]\n",
        "/opt/cni/bin/calico": "",
        "/opt/cni/bin/portmap": "",
      },
    },
    finds: ["node-local-dns"],
    says: /, but: kubelet gives pods 169\.254\.20\.10/,
  },
  "a list that another program resets again and again": {
    breaks: (bed) => {
      const at = Date.now() - 60_000;
      const change = { at, file: "10-azure.conflist", cause: "entry-missing", written: at };
      const changes = Array.from({ length: 12 }, () => ({ ...change, types: ["azure-vnet"] }));
      writeChanges(bed.operations, pathsOf(bed.settings).stateDir, changes);
    },
    finds: ["contention"],
    says: /was written by Azure CNI \(azure-cns\) at .*; 12 times in the last hour/,
  },
  "a setting without effect": {
    node: { kubernetes: { exclude_namespace: ["x"] } },
    finds: ["warning"],
    says: /, but: CNI_NETWORK_CONFIG: the key ".*exclude_namespace" has no effect/,
  },
};

for (const [name, { node, breaks, finds, says }] of Object.entries(run)) {
  Deno.test(`doctor finds it: ${name}`, async () => {
    await using bed = await DoctorBed.make(node);
    await breaks?.(bed);
    const started = performance.now();
    const { verdict, exitCode, findings } = await bed.diagnose();
    ok(performance.now() - started < 5000, "it never hangs");
    const wrong = findings.filter(({ grade }) => grade === "failure" || grade === "warning");
    const codes = new Set(wrong.map(({ code }) => code!));
    if (!finds.includes("api-slow")) codes.delete("api-slow");
    deepEqual([...codes], finds);
    match(verdict, says);
    const isFailure = wrong[0]?.grade === "failure";
    equal(exitCode, isFailure ? 2 : 1);
    for (const finding of wrong) {
      if (finding.grade === "failure") ok(finding.fix, `${finding.code} has no fix`);
    }
  });
}

Deno.test("a token that expires or has expired is found before a pod finds it", async () => {
  await using bed = await DoctorBed.make();
  const reconciler = new Reconciler(bed.settings, bed.operations, bed.host.sourceDir, quietLog());
  const { seen: observed, plan } = await reconciler.look();
  const seen = await lookAtNode(bed.operations, bed.settings, observed, plan);
  const codesAt = (expires: number) =>
    diagnose({ ...seen, token: { issued: expires - 3600_000, expires } }).findings
      .filter(({ subject }) => subject === "token").map(({ code }) => code);
  ok(codesAt(observed.at - 1000).includes("token-expired"));
  ok(codesAt(observed.at + 60_000).includes("token-expires"));
  deepEqual(codesAt(observed.at + 3600_000), [undefined, undefined]);
  const said = (diagnosis: Diagnosis) => new Set(diagnosis.findings.map(({ code }) => code));
  // What a kernel lacks cannot be brought about here.
  const [entry] = seen.entries;
  const engine = { ...entry!.settings!, engine: "nftables" as const };
  const codesWith = (kernel: Partial<typeof seen.kernel>) =>
    diagnose({
      ...seen,
      kernel: { ...seen.kernel, ...kernel },
      entries: [{ ...entry!, settings: engine }],
    }).findings.filter(({ subject }) => subject === "kernel").map(({ code }) => code);
  const ebpf = { ...entry!.settings!, engine: "ebpf" as const };
  for (const lacks of [{ cgroup2: false }, { cgroup2: true, bpf: false }]) {
    const wrong = diagnose({
      ...seen,
      kernel: { ...seen.kernel, ...lacks },
      entries: [{ ...entry!, settings: ebpf }],
    });
    ok(said(wrong).has("ebpf-without-means"));
  }
  ok(codesWith({ nftables: false }).includes("kernel-without-nftables"));
  ok(codesWith({ ipv6: false }).includes("ipv6-off"));
  ok(codesWith({ userNamespaces: 0 }).includes("user-namespaces-off"));
  ok(codesWith({ cgroup2: false }).includes("no-cgroup2"));
  ok(codesWith({ bpf: false }).includes("no-bpf"));
  ok(codesWith({ nftables: { impossible: "CAP_NET_ADMIN" } }).includes("not-seen"));
  // What a bed without any runtime's file shows.
  ok(said(diagnose(seen)).has("runtime-assumed"));
  const change = { at: observed.at, file: "10-calico.conflist", cause: "entry-missing" };
  ok(said(diagnose({ ...seen, changes: [change] })).has("list-rewritten"));
  bed.api.forbid("list", "pods");
  const narrow = await bed.diagnose();
  ok(
    said(narrow).has("rights-narrow") && narrow.findings.every(({ grade }) => grade !== "failure"),
  );
  const not = { ready: false, reason: "Waiting for a list" };
  const agent = diagnose({ ...seen, agent: { socket: true, readiness: not } });
  ok(said(agent).has("agent-not-ready"));
  match(agent.verdict, /The node agent is not ready: Waiting for a list/);
  deepEqual(changeFindings({ ...seen, changes: [] }).map(({ grade }) => grade), ["ok"]);
  const volatile = diagnose({ ...seen, folders: { moved: [], netDirFileSystem: "tmpfs" } });
  ok(volatile.findings.some(({ code }) => code === "net-dir-volatile"));
  const leftOver = diagnose({
    ...seen,
    plan: {
      warnings: [],
      steps: [{
        kind: "remove",
        cause: "left-over",
        name: "10-x-kuma.conflist",
        expected: undefined,
      }],
    },
  });
  ok(leftOver.findings.some(({ code }) => code === "left-over"));
});

Deno.test("doctor takes the last entry about a pod, a static one by kubelet's own UID", async () => {
  const hash = "0123456789abcdef0123456789abcdef";
  const annotations = { "kubernetes.io/config.hash": hash };
  await using bed = await DoctorBed.make({
    objects: [
      injectedPod({ namespace: "demo", name: "app-0", uid: "uid-1", nodeName }),
      injectedPod({ namespace: "demo", name: "static", uid: "uid-2", nodeName, annotations }),
    ],
  });
  const { stateDir } = pathsOf(bed.settings);
  const last = ledgerEntry({ sandbox: "s-1" });
  const skipped = { result: "skipped", reason: "no-sidecar" } as const;
  // Folders are listed in any order, so there is an earlier one before and behind it.
  for (const sandbox of ["a", "b", "y", "z"]) {
    putEntry(stateDir, { ...last, sandbox, time: last.time - 1, outcome: skipped });
  }
  putEntry(stateDir, last);
  putEntry(stateDir, ledgerEntry({ sandbox: "s-2", podName: "static", podUid: hash }));
  const { findings } = await bed.diagnose();
  equal(
    findings.find(({ subject }) => subject === "pods")?.text,
    "2 meshed pods of 2 on this node, all captured",
  );
});

Deno.test("doctor asks more than the plugin, and only the plugin's question tells of the API server", async () => {
  await using bed = await DoctorBed.make();
  for (const verb of ["list", "create"] as const) {
    bed.api.inject({ kind: "status", code: 503 }, { verb });
  }
  const { findings } = await bed.diagnose();
  deepEqual(findings.filter(({ code }) => code === "api-down"), []);
  for (const subject of ["pods", "rights"]) {
    equal(findings.find((finding) => finding.subject === subject)?.grade, "unknown");
  }
});

Deno.test("doctor counts the node's other pods as what they are", async () => {
  await using bed = await DoctorBed.make({
    objects: [
      plainPod({ namespace: "shop", name: "plain", nodeName }),
      injectedPod({ namespace: "shop", name: "web-0", nodeName }),
      injectedPod({ namespace: "shop", name: "elsewhere", nodeName: "node-y" }),
    ],
  });
  bed.cache("shop", "web-0", true);
  const told = async () =>
    (await bed.diagnose()).findings.find(({ subject }) => subject === "pods");
  equal((await told())?.text, "1 meshed pods of 2 on this node, all captured");
  bed.api.store.put(injectedPod({ namespace: "shop", name: "web-1", nodeName }));
  const unknown = await told();
  equal(unknown?.grade, "unknown", "what nothing tells of is not called captured");
  match(unknown?.text ?? "", /^Whether 1 of 2 meshed pods of 3 on this node are captured cannot/);
});
