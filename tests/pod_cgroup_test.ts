/** The pod's cgroup is found whatever made it, and never another pod's. */
import assert from "node:assert/strict";
import { lookAtCgroups } from "../src/linux/cgroup_view.ts";
import { type CgroupView, findPodCgroup } from "../src/linux/pod_cgroup.ts";
import "./support/load_libc.ts";

const UID = "3f8ab0ad-51f7-4a2b-9c37-0f1c9a6d2e11";
const UID_SLICE = UID.replaceAll("-", "_");
const OTHER = "8d1d7c52-0d1c-49f4-8a7e-b9a54a6fd111";
const OTHER_SLICE = OTHER.replaceAll("-", "_");
/** kubelet knows a static pod by the hash of its file. */
const STATIC = "0f6f24ee6bd44e4c1f4a1d4a1d3a5c77";

const PURE = "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
const HYBRID = [
  "30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:8 - tmpfs tmpfs ro,mode=755",
  "31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw",
  "32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory",
].join("\n");
const VERSION_1 = HYBRID.split("\n").filter((line) => !line.includes("cgroup2")).join("\n");

/** A machine with these folders and all that they are in. */
function machine(mounts: string, folders: readonly string[], controllers = ""): CgroupView {
  const all = new Set(folders.flatMap((path) => {
    const parts = path.split("/");
    return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
  }));
  return {
    mounts,
    controllers,
    isFolder: (path) => all.has(path),
    folders: (path) =>
      [...all].filter((entry) => entry.startsWith(`${path}/`))
        .map((entry) => entry.slice(path.length + 1))
        .filter((name) => !name.includes("/")),
  };
}

const places: readonly [what: string, path: string, how: "by name" | "by search"][] = [
  [
    "systemd, burstable",
    `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID_SLICE}.slice`,
    "by name",
  ],
  [
    "systemd, best effort",
    `kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${UID_SLICE}.slice`,
    "by name",
  ],
  ["systemd, guaranteed", `kubepods.slice/kubepods-pod${UID_SLICE}.slice`, "by name"],
  ["cgroupfs, burstable", `kubepods/burstable/pod${UID}`, "by name"],
  ["cgroupfs, best effort", `kubepods/besteffort/pod${UID}`, "by name"],
  ["cgroupfs, guaranteed", `kubepods/pod${UID}`, "by name"],
  [
    "kind, systemd",
    "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/" +
    `kubelet-kubepods-burstable-pod${UID_SLICE}.slice`,
    "by name",
  ],
  ["kind, cgroupfs", `kubelet/kubepods/besteffort/pod${UID}`, "by name"],
  [
    "kind in Docker, seen from the host",
    "system.slice/docker-4f0c.scope/kubelet.slice/kubelet-kubepods.slice/" +
    `kubelet-kubepods-pod${UID_SLICE}.slice`,
    "by search",
  ],
  ["k3d, seen from the host", `docker/4f0c/kubepods/burstable/pod${UID}`, "by search"],
  [
    "an own cgroup root",
    `site.slice/site-kubepods.slice/site-kubepods-pod${UID_SLICE}.slice`,
    "by search",
  ],
];

for (const [what, path, how] of places) {
  for (
    const [mode, mounts, root] of [
      ["pure", PURE, "/sys/fs/cgroup"],
      ["hybrid", HYBRID, "/sys/fs/cgroup/unified"],
    ] as const
  ) {
    Deno.test(`pod's cgroup: ${what}, ${mode} cgroup2`, () => {
      const others = [
        `${root}/${path.replaceAll(UID, OTHER).replaceAll(UID_SLICE, OTHER_SLICE)}/cri-1.scope`,
        `${root}/system.slice/containerd.service`,
      ];
      const found = findPodCgroup(
        machine(mounts, [...others, `${root}/${path}/cri-containerd-77.scope`]),
        UID,
      );
      assert.deepEqual(found, { path: `${root}/${path}`, how });
      // Without the pod's own, that of another pod beside it is not taken.
      const without = findPodCgroup(machine(mounts, others), UID);
      assert.equal("problem" in without && without.problem, "no-pod-cgroup");
    });
  }
}

Deno.test("pod's cgroup: a static pod's is named by the hash of its file", () => {
  for (
    const path of [
      `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${STATIC}.slice`,
      `kubepods/burstable/pod${STATIC}`,
    ]
  ) {
    const found = findPodCgroup(machine(PURE, [`/sys/fs/cgroup/${path}`]), STATIC);
    assert.deepEqual(found, { path: `/sys/fs/cgroup/${path}`, how: "by name" });
  }
});

const nobodys: readonly [what: string, folders: readonly string[]][] = [
  ["the UID with more behind it", [`kubepods/podx/pod${UID}0`, `x/a-pod${UID_SLICE}0.slice`]],
  ["the UID with more before it", [`kubepods/x/xpod${UID}`, `x/apod${UID_SLICE}.slice`]],
  ["a container that has the UID as its name", [`kubepods/x/${UID}`]],
  ["a folder that another pod has made in its own", [
    `kubepods/burstable/pod${OTHER}/c1/pod${UID}`,
    `x.slice/x-pod${OTHER_SLICE}.slice/c1/kubepods-pod${UID_SLICE}.slice`,
    `x.slice/x-pod${STATIC}.slice/pod${UID}`,
  ]],
  ["two that have the UID", [`a/kubepods/pod${UID}`, `b/kubepods/pod${UID}`]],
  ["one that is too deep", [`${"a/".repeat(12)}pod${UID}`]],
];

for (const [what, folders] of nobodys) {
  Deno.test(`pod's cgroup: not taken is ${what}`, () => {
    const view = machine(PURE, folders.map((path) => `/sys/fs/cgroup/${path}`));
    const found = findPodCgroup(view, UID);
    assert.equal("problem" in found && found.problem, "no-pod-cgroup", JSON.stringify(found));
  });
}

Deno.test("pod's cgroup: what cannot be had is said", () => {
  const problem = (view: CgroupView, root?: string) => {
    const found = findPodCgroup(view, UID, root);
    return "problem" in found ? [found.problem, found.reason] : [found.path];
  };
  const folder = `/sys/fs/cgroup/unified/kubepods/pod${UID}`;
  assert.deepEqual(problem(machine(VERSION_1, [])), [
    "no-cgroup2",
    "no cgroup2 file system is mounted",
  ]);
  assert.deepEqual(problem(machine(PURE, []), "/elsewhere"), [
    "no-cgroup2",
    'there is no cgroup2 file system at or below "/elsewhere"',
  ]);
  const header = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
  const used = machine(HYBRID, [folder], `${header}net_cls\t3\t12\t1\n`);
  assert.equal(problem(used)[0], "cgroup-v1-network");
  // Mounted, as systemd does it, but without groups; not mounted at all.
  for (const unused of ["net_cls\t3\t1\t1\n", "net_prio\t0\t140\t1\n"]) {
    const view = machine(HYBRID, [folder], header + unused);
    assert.deepEqual(findPodCgroup(view, UID), { path: folder, how: "by name" });
  }
  for (const uid of ["", "../../x-----", "a b c d e f", `${UID}\n`, "x".repeat(65), "short"]) {
    const found = findPodCgroup(machine(PURE, []), uid);
    assert.match("reason" in found ? found.reason : "", /cannot be part of a cgroup's name/);
  }
  const unknown = findPodCgroup(machine(PURE, []), undefined);
  assert.match("reason" in unknown ? unknown.reason : "", /does not tell the UID/);
});

Deno.test("pod's cgroup: an administrator's path narrows the search, also inside of a mount", () => {
  const view = machine(HYBRID, [`/sys/fs/cgroup/unified/deep/kubepods/pod${UID}`]);
  const path = `/sys/fs/cgroup/unified/deep/kubepods/pod${UID}`;
  assert.deepEqual(findPodCgroup(view, UID, "/sys/fs/cgroup"), { path, how: "by search" });
  assert.deepEqual(findPodCgroup(view, UID, "/sys/fs/cgroup/unified/deep/"), {
    path,
    how: "by name",
  });
});

Deno.test("pod's cgroup: a search ends on a machine with any number of cgroups", () => {
  const many = machine(PURE, []);
  let asked = 0;
  const endless: CgroupView = {
    ...many,
    folders: () => {
      asked++;
      return ["a", "b", "c", "d", "e", "f", "g", "h"];
    },
  };
  const found = findPodCgroup(endless, UID);
  assert.match("reason" in found ? found.reason : "", /first 8192 cgroups/);
  assert.equal(asked, 8192);
});

Deno.test("pod's cgroup: a real one in the kernel's own file system is found", () => {
  const view = lookAtCgroups();
  const mount = view.mounts.split("\n").find((line) => line.includes(" - cgroup2 "))?.split(" ")[4];
  assert.ok(mount !== undefined, "This machine has no cgroup2 file system");
  const uid = crypto.randomUUID();
  const top = `${mount}/kuma-cni-test-${uid.slice(0, 8)}.slice`;
  const pod = `${top}/test-kubepods-pod${uid.replaceAll("-", "_")}.slice`;
  const other = `${top}/test-kubepods-pod${crypto.randomUUID().replaceAll("-", "_")}.slice`;
  const folders = [top, other, pod, `${pod}/cri-containerd-1.scope`];
  try {
    for (const folder of folders) Deno.mkdirSync(folder);
    assert.deepEqual(findPodCgroup(view, uid), { path: pod, how: "by search" });
    assert.deepEqual(findPodCgroup(view, uid, top), { path: pod, how: "by search" });
  } finally {
    for (const folder of folders.reverse()) {
      try {
        Deno.removeSync(folder);
      } catch { /* It was not made. */ }
    }
  }
});
