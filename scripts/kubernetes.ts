/**
 * Builds the programs of a real Kubernetes cluster from Debian's source package `kubernetes`, for
 * tests: API server, kubelet, kube-proxy, scheduler, controller manager and kubectl. It takes some
 * six minutes on two idle cores and 2 GB of disk, once; 400 MB stay.
 *
 * Usage: deno run -A scripts/kubernetes.ts
 */
import { installMissingPackages } from "./packages.ts";

/** Version of Kubernetes that Debian 12 has the source of. */
export const kubernetesVersion = "1.20.2";

const root = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
const cache = `${root}/.cache/kubernetes`;
const programs = [
  "kube-apiserver",
  "kubelet",
  "kube-scheduler",
  "kube-controller-manager",
  "kube-proxy",
  "kubectl",
];

/** A program of the build failed; the message has its output's end. */
export class KubernetesBuildError extends Error {
  override readonly name = "KubernetesBuildError";
}

/**
 * Builds the programs, at the lowest priority, unless they are there.
 *
 * @returns Path of the folder that they are in.
 * @throws {PackageError} when the Debian packages that the build needs cannot be installed.
 * @throws {KubernetesBuildError} when the source cannot be had or does not compile.
 */
export async function kubernetesPrograms(): Promise<string> {
  const folder = `${cache}/${kubernetesVersion}`;
  await Deno.mkdir(cache, { recursive: true });
  using lock = await Deno.open(`${cache}/lock`, { create: true, write: true });
  await lock.lock(true);
  await installMissingPackages(`${root}/scripts/kubernetes_packages.txt`);
  if (await exists(folder)) return folder;
  console.error(`Building Kubernetes ${kubernetesVersion}, which takes some minutes`);
  const work = `${cache}/work`;
  const output = `${work}/output`;
  await Deno.mkdir(output, { recursive: true });
  const source = await fetchSource(work);
  await replaceReflect(source);
  await build(work, source, output);
  await Deno.rename(output, folder);
  // Go writes its module cache read-only, which root may remove all the same.
  await Deno.remove(work, { recursive: true });
  return folder;
}

/** Has apt fetch and unpack the source, with the machine's own sources turned to `deb-src`. */
async function fetchSource(work: string): Promise<string> {
  const lists = `${work}/apt`;
  await Deno.mkdir(`${lists}/state/partial`, { recursive: true });
  await Deno.mkdir(`${lists}/parts`, { recursive: true });
  await Deno.writeTextFile(
    `${lists}/parts/machine.list`,
    asSources(await readIfThere("/etc/apt/sources.list"), "list"),
  );
  for await (const { name } of Deno.readDir("/etc/apt/sources.list.d")) {
    const form = /\.(list|sources)$/.exec(name)?.[1];
    if (form === undefined) continue;
    const text = await Deno.readTextFile(`/etc/apt/sources.list.d/${name}`);
    await Deno.writeTextFile(`${lists}/parts/${name}`, asSources(text, form));
  }
  const options = [
    "Dir::Etc::SourceList=/dev/null",
    `Dir::Etc::SourceParts=${lists}/parts`,
    `Dir::State::Lists=${lists}/state`,
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  await run(["apt-get", ...options, "update"], { cwd: work });
  const found = await sourceFolder(work);
  if (found !== undefined) return found;
  await run(["apt-get", ...options, "source", "kubernetes"], { cwd: work });
  const source = await sourceFolder(work);
  if (source === undefined) {
    throw new KubernetesBuildError(
      `The source package "kubernetes" did not unpack into ${work}/kubernetes-1.20…; ` +
        "Debian 12 has that version",
    );
  }
  return source;
}

function asSources(text: string, form: string): string {
  return form === "sources"
    ? text.replaceAll(/^Types:.*$/gm, "Types: deb-src")
    : text.replaceAll(/^deb\s/gm, "deb-src ");
}

async function sourceFolder(work: string): Promise<string | undefined> {
  for await (const { name, isDirectory } of Deno.readDir(work)) {
    if (isDirectory && name.startsWith("kubernetes-1.20")) return `${work}/${name}`;
  }
  return undefined;
}

/**
 * Puts Debian's newer reflect2 in place of the bundled one, which reads maps in a way that Go 1.18
 * and later no longer allow: the API server would crash at the first map that it prints.
 */
async function replaceReflect(source: string): Promise<void> {
  const bundled = `${source}/vendor/github.com/modern-go/reflect2`;
  const packaged = "/usr/share/gocode/src/github.com/modern-go/reflect2";
  const isCode = (name: string) => /\.(go|s)$/.test(name);
  for (const { name } of [...Deno.readDirSync(bundled)]) {
    if (isCode(name)) await Deno.remove(`${bundled}/${name}`);
  }
  for await (const { name } of Deno.readDir(packaged)) {
    if (isCode(name) && !name.endsWith("_test.go")) {
      await Deno.copyFile(`${packaged}/${name}`, `${bundled}/${name}`);
    }
  }
}

async function build(work: string, source: string, output: string): Promise<void> {
  const inGoPath = `${work}/go/src/k8s.io/kubernetes`;
  await Deno.mkdir(`${work}/go/src/k8s.io`, { recursive: true });
  await Deno.mkdir(`${work}/home`, { recursive: true });
  await Deno.symlink(source, inGoPath).catch((error) => {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  });
  const [major, minor] = kubernetesVersion.split(".");
  const versionFile = `${work}/version`;
  await Deno.writeTextFile(
    versionFile,
    `KUBE_GIT_COMMIT='debian'\nKUBE_GIT_TREE_STATE='archive'\nKUBE_GIT_VERSION='v${kubernetesVersion}'\n` +
      `KUBE_GIT_MAJOR='${major}'\nKUBE_GIT_MINOR='${minor}'\n`,
  );
  const options = {
    // Its own shell scripts find their place by the working directory that the shell believes in.
    cwd: inGoPath,
    env: {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: `${work}/home`,
      PWD: inGoPath,
      GOPATH: `${work}/go`,
      GOCACHE: `${work}/gocache`,
      GO111MODULE: "off",
      CGO_ENABLED: "0",
      KUBE_GIT_VERSION_FILE: versionFile,
    },
  };
  await run(["make", "generated_files"], options);
  const linkerFlags = versionStamps(kubernetesVersion, {
    prefix: "k8s.io/kubernetes/vendor/",
    gitCommit: "debian",
    gitTreeState: "archive",
    buildDate: "2021-01-13T13:20:00Z",
  });
  for (const program of programs) {
    console.error(`Compiling ${program}`);
    await run([
      "go",
      "build",
      "-ldflags",
      [...linkerFlags, "-s", "-w"].join(" "),
      "-o",
      `${output}/${program}`,
      `k8s.io/kubernetes/cmd/${program}`,
    ], options);
  }
}

/**
 * The linker's flags that stamp its version into a program of Kubernetes.
 *
 * @param prefix What stands before the paths of the modules that have it.
 */
export function versionStamps(
  version: string,
  { prefix = "", ...facts }: {
    readonly prefix?: string;
    readonly gitCommit: string;
    readonly gitTreeState: string;
    readonly buildDate: string;
  },
): string[] {
  const [gitMajor, gitMinor] = version.split(".");
  const all = { gitVersion: `v${version}`, gitMajor, gitMinor, ...facts };
  return ["client-go/pkg/version", "component-base/version"].flatMap((path) =>
    Object.entries(all).map(([key, value]) => `-X ${prefix}k8s.io/${path}.${key}=${value}`)
  );
}

async function run(
  command: readonly string[],
  options: { readonly cwd: string; readonly env?: Record<string, string> },
): Promise<void> {
  const { env } = options;
  const { success, stdout, stderr } = await new Deno.Command("nice", {
    args: ["-n", "19", ...command],
    cwd: options.cwd,
    ...(env === undefined ? {} : { clearEnv: true, env }),
    stdin: "null",
  }).output();
  if (success) return;
  const decoder = new TextDecoder();
  const text = (decoder.decode(stdout) + decoder.decode(stderr)).trim().slice(-4000);
  throw new KubernetesBuildError(
    `Cannot build Kubernetes: "${command.join(" ")}" failed:\n${text}`,
  );
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

if (import.meta.main) console.log(await kubernetesPrograms());
