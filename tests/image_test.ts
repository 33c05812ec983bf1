/** What `deno task image` writes: the same bytes each time, and what others expect to find there. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { billedImage } from "../scripts/image.ts";
import { root } from "../scripts/build.ts";
import { type Architecture, namesOf, ownArchitecture } from "../scripts/package/architecture.ts";
import { findBusybox } from "../scripts/package/busybox.ts";
import { unpackDebianPackages } from "../scripts/package/debian.ts";
import { imageFiles } from "../scripts/package/image_files.ts";
import { digestOf, imageArchive, makeImage, makeIndex } from "../scripts/package/oci.ts";
import {
  pluginPayload,
  type Programs,
  readDocuments,
  readPrograms,
} from "../scripts/package/programs.ts";
import { tar, type TarEntry } from "../src/archive/tar.ts";
import { VERSION } from "../src/version.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { withFolder } from "./support/files.ts";
import { account, Registry } from "./support/registry.ts";

const name = "registry.example/mesh/kuma-cni:1";

async function builtPrograms(): Promise<Programs> {
  await compiledInstaller();
  return await readPrograms((await compiledPlugin()).replace(/\/[^/]*$/, ""));
}

async function run(program: string, args: readonly string[], options: Deno.CommandOptions = {}) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    stdin: "null",
    ...options,
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

Deno.test("two builds of the image give the same archive and bill, small enough, which others read and get from a registry", async () => {
  await using registry = await Registry.start({ login: "password" });
  await withFolder(async (folder) => {
    const auth = btoa(`${account.user}:${account.password}`);
    Deno.mkdirSync(`${folder}/.docker`);
    Deno.writeTextFileSync(
      `${folder}/.docker/config.json`,
      JSON.stringify({ auths: { [registry.address]: { auth } } }),
    );
    const pushed = `${registry.address}/mesh/kuma-cni:1`;
    const digests: string[][] = [];
    for (
      const [i, { env, more }] of [
        { env: { TZ: "UTC", LANG: "C" }, more: [] },
        {
          env: { TZ: "Asia/Tokyo", LANG: "de_DE.UTF-8", HOME: folder },
          more: ["--push", pushed],
        },
      ].entries()
    ) {
      const output = `${folder}/${i}.tar`;
      const args = ["run", "-A", "--no-check", `${root}/scripts/image.ts`, "--name", name];
      const { code, stdout, stderr } = await run(
        Deno.execPath(),
        [...args, "--output", output, ...more],
        { cwd: folder, env: { DENO_DIR: denoFolder(), ...env } },
      );
      equal(code, 0, stderr);
      if (more.length > 0) {
        const [, digest] = /@(sha256:\w{64})\n$/.exec(stdout) ?? [];
        const creds = `--creds=${account.user}:${account.password}`;
        const raw = await run(
          "skopeo",
          ["inspect", "--raw", "--tls-verify=false", creds]
            .concat(`docker://${pushed}`),
        );
        equal(digestOf(new TextEncoder().encode(raw.stdout)), digest, raw.stderr);
        ok(stdout.includes(`${name}: ${digest}\n`), stdout);
      }
      const size = /^amd64: ([\d.]+) MB compressed$|^arm64: ([\d.]+) MB compressed$/m.exec(stdout);
      ok(Number(size?.[1] ?? size?.[2]) < 45, stdout);
      digests.push([
        digestOf(await Deno.readFile(output)),
        digestOf(await Deno.readFile(`${folder}/${i}.spdx.json`)),
      ]);
    }
    deepEqual(digests[0], digests[1]);

    const inspected = await run("skopeo", ["inspect", "--config", `oci-archive:${folder}/0.tar`]);
    equal(inspected.code, 0, inspected.stderr);
    const { architecture, os, config } = JSON.parse(inspected.stdout);
    deepEqual([os, architecture], ["linux", ownArchitecture]);
    deepEqual(config.Entrypoint, ["/install-cni"]);
    equal(config.WorkingDir, "/opt/cni/bin");
    match(config.Env[0], /^PATH=.*:\/bin:\/opt\/cni\/bin$/);
    equal(config.Labels["org.opencontainers.image.version"], VERSION);
    // What docker load of old reads.
    const list = await run("tar", ["-xOf", `${folder}/0.tar`, "manifest.json"]);
    const [{ RepoTags, Layers, Config }] = JSON.parse(list.stdout);
    deepEqual(RepoTags, [name]);
    const names = (await run("tar", ["-tf", `${folder}/0.tar`])).stdout.split("\n");
    deepEqual([...Layers, Config].filter((path) => !names.includes(path)), []);
  });
});

/** Deno's cache, which does not move with the HOME of a build. */
function denoFolder(): string {
  return Deno.env.get("DENO_DIR") || `${Deno.env.get("HOME")}/.cache/deno`;
}

Deno.test("the image has the reference's files, a shell, mount points, licences, and the runtime once", async () => {
  const programs = await builtPrograms();
  const busybox = await findBusybox(ownArchitecture);
  const documents = await readDocuments();
  const { files, bill } = imageFiles({
    architecture: ownArchitecture,
    programs,
    busybox,
    documents,
  });
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/layer.tar`, tar(files));
    const { code, stderr } = await run("tar", ["-xpf", "layer.tar"], { cwd: folder });
    equal(code, 0, stderr);
    const stat = (path: string) => Deno.lstatSync(`${folder}/${path}`);
    for (
      const path of ["host/etc/cni/net.d", "host/opt/cni/bin", "proc", "dev", "sys", "etc"]
        .concat("var/run/secrets/kubernetes.io/serviceaccount")
    ) {
      deepEqual(Array.from(Deno.readDirSync(`${folder}/${path}`)), [], path);
    }
    equal(stat("tmp").mode! & 0o7777, 0o1777);
    for (const path of ["install-cni", "opt/cni/bin/kuma-cni", "bin/sh", "bin/cat", "bin/sleep"]) {
      equal(Deno.statSync(`${folder}/${path}`).mode! & 0o111, 0o111, path);
    }
    equal(stat("install-cni").ino, stat("opt/cni/bin/kuma-cni").ino);
    equal(stat("install-cni").nlink, 2);
    for (const path of ["kuma/LICENSE", "kuma/NOTICE", "kuma/LICENSES/GPL-2.0.txt"]) {
      ok(stat(path).isFile, path);
    }

    // Both programs run with what is in the image only, also the plugin's own way of starting.
    const payload = await Deno.readFile(`${folder}/opt/cni/bin/kuma-cni.payload`);
    const built = programs.plugin;
    deepEqual(built.subarray(built.length - payload.length), payload);
    // The kernel resolves absolute links against the root, the loader asks /proc where it is.
    const script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"';
    const inside = (...command: string[]) =>
      run("unshare", [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        folder,
        ...command,
      ]);
    const shell = await inside("/bin/sh", "-c", "--", "sleep 0 && exec /install-cni --version");
    equal(shell.code, 0, shell.stderr);
    match(shell.stdout, new RegExp(`^install-cni ${VERSION} \\((commit|unknown) [^)]+\\)\n$`));
    const plugin = await inside("/opt/cni/bin/kuma-cni", "--version");
    equal(plugin.code, 0, plugin.stderr);
    match(plugin.stdout, new RegExp(`^kuma-cni ${VERSION} \\((commit|unknown) [^)]+\\)\n$`));
    deepEqual((await inside("/bin/cat", "/kuma/sbom.spdx.json")).stdout, bill);
  });
});

Deno.test("the bill of materials names every file by hash and every component with its licence", async () => {
  const programs = await builtPrograms();
  const { image, bill } = await billedImage(ownArchitecture, programs, { time: 1_700_000_000 });
  const { packages, files, relationships, creationInfo, spdxVersion } = JSON.parse(bill);
  equal(spdxVersion, "SPDX-2.3");
  equal(creationInfo.created, "2023-11-14T22:13:20Z");
  const layer = gunzipSync(image.layers[0]!.data);
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/layer.tar`, layer);
    await run("tar", ["-xpf", "layer.tar"], { cwd: folder });
    const paths = (await run("find", [".", "-type", "f", "-not", "-name", "layer.tar"], {
      cwd: folder,
    })).stdout.trim().split("\n");
    // A second name of the same file is no file of its own, and the bill cannot contain its own hash.
    const own = ["./kuma/sbom.spdx.json", "./opt/cni/bin/kuma-cni"];
    const listed = files.map(({ fileName }: { fileName: string }) => fileName);
    deepEqual([...listed, ...own].sort(), paths.sort());
    for (const { fileName, checksums } of files) {
      const [, { algorithm, checksumValue }] = checksums;
      equal(algorithm, "SHA256");
      equal(`sha256:${checksumValue}`, digestOf(await Deno.readFile(`${folder}/${fileName}`)));
    }
  });
  const byName = new Map(
    packages.map((each: { name: string; versionInfo: string; licenseDeclared: string }) => [
      each.name,
      [each.versionInfo, each.licenseDeclared],
    ]),
  );
  deepEqual(byName.get("kuma-cni"), [VERSION, "Apache-2.0"]);
  deepEqual(byName.get("busybox"), ["1:1.35.0-4+deb12u1+b1", "GPL-2.0-only"]);
  deepEqual(byName.get("commander"), ["14.0.3", "MIT"]);
  deepEqual(byName.get("deno-std"), ["1.4.0", "MIT"]);
  for (const [name, form] of [["deno", /^\d+\.\d+\.\d+$/], ["v8", /^\d+\./], ["glibc", /^2\./]]) {
    match((byName.get(name as string) as string[])[0]!, form as RegExp);
  }
  // Every component is in NOTICE, and every licence in LICENSES.
  const notice = Deno.readTextFileSync(`${root}/NOTICE`);
  const titles = ["Deno runtime", "V8", "Deno standard library", "commander"]
    .concat("GNU C Library", "GCC runtime library", "BusyBox");
  equal(titles.length, packages.length - 1);
  deepEqual(titles.filter((title) => !notice.includes(title)), []);
  for (const { licenseDeclared } of packages) {
    for (const id of licenseDeclared.split(" WITH ") as string[]) {
      const file = `LICENSES/${id.replace(/-or-later$|-only$/, "")}.txt`;
      ok(id === "Apache-2.0" || Deno.statSync(`${root}/${file}`).isFile, file);
    }
  }
  equal(relationships.length, packages.length + files.length);
});

Deno.test("an archive is what tar reads, and too long a path is an error", async () => {
  const entries: TarEntry[] = [
    { path: "a", kind: "folder" },
    { path: "a/file", kind: "file", mode: 0o640, data: new TextEncoder().encode("text") },
    { path: "a/empty", kind: "file", mode: 0o644, data: new Uint8Array() },
    { path: "a/link", kind: "symlink", target: "file" },
    { path: "a/same", kind: "hardlink", target: "a/file" },
  ];
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/x.tar`, tar(entries, 86_400));
    const { stdout } = await run("tar", ["-tvf", "x.tar", "--full-time", "--utc"], { cwd: folder });
    deepEqual(stdout.trim().split("\n").map((line) => line.replace(/\s+/g, " ")), [
      "drwxr-xr-x root/root 0 1970-01-02 00:00:00 a/",
      "-rw-r----- root/root 4 1970-01-02 00:00:00 a/file",
      "-rw-r--r-- root/root 0 1970-01-02 00:00:00 a/empty",
      "lrwxr-xr-x root/root 0 1970-01-02 00:00:00 a/link -> file",
      "hrwxr-xr-x root/root 0 1970-01-02 00:00:00 a/same link to a/file",
    ]);
  });
  throws(
    () => tar([{ path: "a".repeat(101), kind: "symlink", target: "b" }]),
    /its path has 101 bytes, at most 100 fit$/,
  );
});

Deno.test("an image for two architectures is one archive with an index, which skopeo takes whole", async () => {
  const images = (["amd64", "arm64"] as const).map((architecture) =>
    makeImage({
      architecture,
      files: [{ path: "a", kind: "file", data: new TextEncoder().encode(architecture) }],
      entrypoint: ["/a"],
      environment: [],
      workingFolder: "/",
    })
  );
  const index = makeIndex(images);
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/x.tar`, imageArchive(name, images, index));
    const { code, stderr } = await run(
      "skopeo",
      ["copy", "--insecure-policy", "--all"]
        .concat(`oci-archive:${folder}/x.tar`, `dir:${folder}/out`),
    );
    equal(code, 0, stderr);
    equal(digestOf(await Deno.readFile(`${folder}/out/manifest.json`)), index.digest);
    for (const { architecture, manifest } of images) {
      const file = `${folder}/out/${manifest.digest.replace("sha256:", "")}.manifest.json`;
      equal(digestOf(await Deno.readFile(file)), manifest.digest, architecture);
    }
  });
});

Deno.test("an image for another architecture is made of Debian's packages, where its denort is at hand", async () => {
  const [other, machine] = ownArchitecture === "amd64" ? ["arm64", 183] : ["amd64", 62];
  const architecture = other as Architecture;
  await withFolder(async (folder) => {
    // No denort of it is to be had: a program of Debian's, to which anything can be appended, too.
    await unpackDebianPackages(architecture, ["busybox"], `${folder}/standin`);
    const output = `${folder}/image.tar`;
    const { code, stderr } = await run(
      Deno.execPath(),
      ["run", "-A", "--no-check", `${root}/scripts/image.ts`, "--arch", architecture]
        .concat("--output", output),
      { env: { DENORT_BIN: `${folder}/standin/bin/busybox` } },
    );
    equal(code, 0, stderr);
    const { stdout } = await run("skopeo", ["inspect", "--config", `oci-archive:${output}`]);
    equal(JSON.parse(stdout).architecture, architecture);
    const copied = await run(
      "skopeo",
      ["copy", "--insecure-policy", `oci-archive:${output}`]
        .concat(`dir:${folder}/out`),
    );
    equal(copied.code, 0, copied.stderr);
    const { layers } = JSON.parse(Deno.readTextFileSync(`${folder}/out/manifest.json`));
    Deno.mkdirSync(`${folder}/root`);
    const layer = `${folder}/out/${layers[0].digest.slice("sha256:".length)}`;
    equal((await run("tar", ["-xzpf", layer, "-C", `${folder}/root`])).code, 0);
    const { loader } = namesOf[architecture];
    const libraries = `${folder}/root/opt/cni/bin/kuma-cni.lib`;
    const [version] = Array.from(Deno.readDirSync(libraries), ({ name }) => name);
    // The link leads to a file of the image, which only its own root shows.
    equal(
      Deno.readLinkSync(`${folder}/root/${loader}`),
      `/opt/cni/bin/kuma-cni.lib/${version}/${loader.slice(loader.lastIndexOf("/") + 1)}`,
    );
    const programs = ["install-cni", "opt/cni/bin/kuma-cni", "bin/busybox"]
      .concat(`opt/cni/bin/kuma-cni.lib/${version}/libc.so.6`)
      .concat(`opt/cni/bin/kuma-cni.lib/${version}/${loader.slice(loader.lastIndexOf("/") + 1)}`);
    for (const path of programs) {
      equal(Deno.readFileSync(`${folder}/root/${path}`)[18], machine, path);
    }
  });
  await rejects(
    unpackDebianPackages(architecture, ["no-such-package-x"], "/nowhere"),
    /Cannot fetch no-such/,
  );
});

Deno.test("programs with different runtimes are refused, since the image has one", async () => {
  const programs = await builtPrograms();
  const installer = programs.installer.slice();
  installer[1_000_000]! ^= 1;
  throws(() => pluginPayload({ ...programs, installer }), /were built from different runtimes/);
});

Deno.test("wrong arguments of the image task end with one line", async () => {
  for (
    const [args, message] of [
      [["--arch", "riscv64"], 'Cannot build for "riscv64": expected amd64 or arm64'],
      [["--name", "kuma-cni"], /does not begin with the host of a registry/],
      [["--push", "registry.example/kuma-cni"], /has no tag/],
      [["--chunk-size", "8M"], '--chunk-size is "8M": expected a whole number of MiB, such as 8'],
      [["--libraries", "/x", "--arch", "amd64", "--arch", "arm64"], /is for one architecture/],
      [["extra"], /Unexpected argument 'extra'/],
    ] as const
  ) {
    const { code, stdout, stderr } = await run(
      Deno.execPath(),
      ["run", "-A", "--no-check", `${root}/scripts/image.ts`, ...args],
    );
    deepEqual([code, stdout], [1, ""]);
    if (typeof message === "string") equal(stderr, `${message}\n`);
    else match(stderr, message);
    equal(stderr.trim().split("\n").length, 1, stderr);
  }
});
