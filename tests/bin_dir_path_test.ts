/** Whether a container can tell that its bin dir is another folder on the host. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { compareBinDir, type MountView, pathOnFileSystem } from "../installer/host/bin_dir_path.ts";
import { InstallerHost, networkConfig, primaryList } from "./support/installer_host.ts";

/** A container whose bin dir shows this part of a file system. */
function container(root: string, more: Partial<MountView> = {}): MountView {
  return {
    mountinfo: () =>
      `100 99 0:50 / / rw - overlay overlay rw\n` +
      `101 100 254:1 ${root.replaceAll(" ", "\\040")} /host/opt/cni/bin rw - ext4 /dev/vda1 rw\n`,
    realPath: (path) => path,
    identity: (path) => path === "/host/opt/cni/bin" ? "254:77" : undefined,
    pidNamespace: () => "pid:[4026532000]",
    ...more,
  };
}

Deno.test("the part of a file system that a mount shows tells the path on the host", () => {
  const mounted = "/host/opt/cni/bin";
  const compare = (hostPath: string, view: MountView) => compareBinDir(mounted, hostPath, view);
  deepEqual(compare("/opt/cni/bin", container("/opt/cni/bin")), { kind: "likely" });
  deepEqual(compare("/opt/cni/bin", container("/home/kubernetes/bin")), {
    kind: "other",
    seen: "/home/kubernetes/bin",
  });
  // File systems of their own, and links of the host (ostree, btrfs), make it shorter or longer.
  deepEqual(compare("/var/lib/cni/bin", container("/lib/cni/bin")), { kind: "likely" });
  deepEqual(compare("/opt/cni/bin", container("/@/var/opt/cni/bin")), { kind: "likely" });
  deepEqual(compare("/opt/cni/bin", container("/")), { kind: "likely" });
  deepEqual(compare("/opt/cni/bin", container("/my opt/cni/bin")), {
    kind: "other",
    seen: "/my opt/cni/bin",
  });
  deepEqual(compare("/opt/cni/bin", container("/xopt/cni/bin")).kind, "other");
});

Deno.test("with the host's processes in sight, its own root decides", () => {
  const view = container("/data/3ef/bin", {
    pidNamespace: () => "pid:[4026531836]",
    identity: (path) =>
      ["/host/opt/cni/bin", "/proc/1/root/data/current/bin"].includes(path) ? "254:77" : undefined,
  });
  equal(compareBinDir("/host/opt/cni/bin", "/data/current/bin", view).kind, "likely");
  equal(compareBinDir("/host/opt/cni/bin", "/opt/cni/bin", view).kind, "other");
});

Deno.test("what cannot be looked at is not known", () => {
  const broken: MountView = {
    ...container("/x"),
    mountinfo: () => {
      throw new Error("no /proc");
    },
  };
  equal(compareBinDir("/host/opt/cni/bin", "/opt/cni/bin", broken).kind, "unknown");
  equal(compareBinDir("/missing", "/opt/cni/bin", container("/x")).kind, "unknown");
});

Deno.test("the innermost and last mount counts", () => {
  const info = "1 0 8:1 / / rw\n2 1 8:2 / /opt rw\n3 1 8:3 /a /opt rw\n4 1 8:4 / /optional rw\n";
  equal(pathOnFileSystem("/opt/cni", info), "/a/cni");
  equal(pathOnFileSystem("/optional", info), "/");
  equal(pathOnFileSystem("/bin", info), "/bin");
  equal(pathOnFileSystem("/bin", ""), undefined);
});

Deno.test("another bin dir than the usual one needs to be named, and then it is ready", async () => {
  await using host = new InstallerHost();
  host.writeConf("10-calico.conflist", primaryList);
  host.shipLibraries("1");
  const withoutPath = networkConfig.replace(/ *"cni_bin_dir": "[^"]*",\n/, "");
  ok(withoutPath !== networkConfig);
  const first = host.start({ CNI_NETWORK_CONFIG: withoutPath });
  await first.until("said", () => first.stderr.includes("Waiting for"));
  match(
    first.stderr,
    /Waiting for "kubernetes.cni_bin_dir" in CNI_NETWORK_CONFIG: .* seems to be "/,
  );
  ok(!host.isReady);
  equal(host.readConf("10-calico.conflist"), primaryList);
  await first.terminate();

  const named = host.start({
    CNI_NETWORK_CONFIG: networkConfig.replace("/opt/cni/bin", host.binDir),
  });
  await named.until("ready", () => host.isReady);
  ok(!named.stderr.includes("seems to be"), named.stderr);
  await named.terminate();

  // An administrator's word counts, with a remark.
  const elsewhere = host.start({});
  await elsewhere.until("remarked", () => elsewhere.stderr.includes("seems to be"));
  await elsewhere.until("ready", () => host.isReady);
});
