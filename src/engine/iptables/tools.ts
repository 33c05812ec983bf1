/**
 * Finds the iptables tools of a host and learns which backend they speak to, with one process per
 * distinct program file.
 */
import type { IpFamily } from "../../ip/address.ts";
import { toolFamily } from "../../redirect/iptables_text.ts";
import { LinuxError } from "../../linux/errno.ts";
import { runProgram } from "../../linux/process.ts";

/** What a tool keeps its rules in: nf_tables, or the older `ip_tables` interface of the kernel. */
export type Backend = "nft" | "legacy";

/** The two tools of one family, absolute paths. */
export interface FamilyTools {
  readonly restore: string;
  readonly save: string;
}

/** The tools of one backend. */
export interface Tools {
  readonly backend: Backend;
  /** Release, for example `[1, 8, 9]`; unknown for tools that cannot tell. */
  readonly version: readonly [number, number, number] | undefined;
  readonly families: Readonly<Partial<Record<IpFamily, FamilyTools>>>;
}

/** Folders of every Linux distribution's system programs. */
const SYSTEM_FOLDERS: readonly string[] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/** What a program says about itself. */
interface Identity {
  readonly backend: Backend | undefined;
  readonly version: Tools["version"];
}

/** Finds tools; keeps what it learned for its own lifetime only. */
export class ToolFinder {
  #folders: readonly string[] | undefined;
  readonly #identities = new Map<string, Identity>();
  readonly #problems: string[] = [];

  /**
   * @param folders where to look, in this order; without it the trustworthy folders of `PATH` and
   * then the system's
   * @param timeoutMs bound for one question to a tool
   */
  constructor(folders: readonly string[] | undefined, private readonly timeoutMs: number) {
    this.#folders = folders;
  }

  /** Why tools that exist were passed over, one sentence each. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Folders in which tools are looked for. */
  get folders(): readonly string[] {
    // Only now, since most pods need no tool.
    return this.#folders ??= [
      ...new Set([...trustedFolders(Deno.env.get("PATH") ?? ""), ...SYSTEM_FOLDERS]),
    ];
  }

  /**
   * Finds the tools of a backend: the names with the backend's own suffix first, then the plain
   * ones.
   *
   * @returns `undefined` when IPv4's two tools are not both there; IPv6's may be missing
   */
  find(backend: Backend): Tools | undefined {
    const ipv4 = this.#findFamily("ipv4", backend);
    if (ipv4 === undefined) return undefined;
    const ipv6 = this.#findFamily("ipv6", backend);
    return {
      backend,
      version: this.#identify(ipv4.restore).version,
      families: { ipv4, ...(ipv6 === undefined ? {} : { ipv6 }) },
    };
  }

  /** Finds another program that root may run, in the folders of the tools. */
  findProgram(name: string): string | undefined {
    return this.folders.map((folder) => `${folder}/${name}`).find(isFile);
  }

  #findFamily(family: IpFamily, backend: Backend): FamilyTools | undefined {
    const restore = this.#findTool(`${toolFamily(family)}`, backend, "restore");
    const save = this.#findTool(`${toolFamily(family)}`, backend, "save");
    return restore === undefined || save === undefined ? undefined : { restore, save };
  }

  #findTool(base: string, backend: Backend, kind: "restore" | "save"): string | undefined {
    for (const name of [`${base}-${backend}-${kind}`, `${base}-${kind}`]) {
      for (const folder of this.folders) {
        const path = `${folder}/${name}`;
        if (this.#identify(path).backend === backend) return path;
      }
    }
    return undefined;
  }

  #identify(path: string): Identity {
    let file: string;
    try {
      // All names of a release are links to one or two files, so this saves most of the questions.
      file = Deno.realPathSync(path);
    } catch {
      return { backend: undefined, version: undefined };
    }
    let identity = this.#identities.get(file);
    if (identity === undefined) {
      identity = this.#ask(path);
      this.#identities.set(file, identity);
    }
    return identity;
  }

  #ask(path: string): Identity {
    const unusable = (why: string): Identity => {
      this.#problems.push(`"${path}" cannot be used: ${why}`);
      return { backend: undefined, version: undefined };
    };
    try {
      const program = { path, args: ["--version"], env: { LANG: "C", LC_ALL: "C" } };
      const result = runProgram(program, this.timeoutMs);
      if (result.timedOut) return unusable(`It did not tell its version in ${this.timeoutMs} ms`);
      // Releases before 1.8 have tools that do not know the option; they know one backend only.
      if (/(?:unrecognized|unknown|invalid) option/.test(result.stderr)) {
        return { backend: "legacy", version: undefined };
      }
      if (result.status !== 0) {
        const end = result.status ?? `signal ${result.signal}`;
        return unusable(`Asked for its version it ended with ${end}: ${firstLine(result.stderr)}`);
      }
      return parseVersion(result.stdout);
    } catch (error) {
      if (error instanceof LinuxError) return unusable(error.message);
      throw error;
    }
  }
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** Reads for example `iptables-restore v1.8.9 (nf_tables)`. */
function parseVersion(text: string): Identity {
  const [, major, minor, patch] = /\bv(\d+)\.(\d+)(?:\.(\d+))?/.exec(text) ?? [];
  return {
    backend: text.includes("(nf_tables)") ? "nft" : "legacy",
    version: major === undefined ? undefined : [Number(major), Number(minor), Number(patch ?? 0)],
  };
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0]?.slice(0, 200) ?? "";
}

/**
 * The folders of a search path that only root can have filled: absolute, and up to the root owned by
 * root and writable by nobody else.
 */
export function trustedFolders(path: string): string[] {
  return path.split(":").filter((folder) => folder.startsWith("/") && isTrusted(folder));
}

function isTrusted(folder: string): boolean {
  try {
    let path = Deno.realPathSync(folder);
    for (;;) {
      const { uid, mode, isDirectory } = Deno.statSync(path);
      if (!isDirectory || uid !== 0 || mode === null || (mode & 0o022) !== 0) return false;
      if (path === "/") return true;
      path = path.slice(0, Math.max(path.lastIndexOf("/"), 1));
    }
  } catch {
    return false;
  }
}

/** Whether a release is at least another one; an unknown one is taken for an old one. */
export function isAtLeast(
  version: Tools["version"],
  major: number,
  minor: number,
  patch: number,
): boolean {
  if (version === undefined) return false;
  const [a, b, c] = version;
  return a !== major ? a > major : b !== minor ? b > minor : c >= patch;
}
