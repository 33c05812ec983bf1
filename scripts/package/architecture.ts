/** What the architectures that the programs run on are called by those who package them. */

/** As OCI images, Go and Debian name an architecture. */
export type Architecture = "amd64" | "arm64";

const architectures: readonly Architecture[] = ["amd64", "arm64"];

/** The machine's own. */
export const ownArchitecture: Architecture = Deno.build.arch === "aarch64" ? "arm64" : "amd64";

/** Names of an architecture. */
export const namesOf: Readonly<
  Record<Architecture, {
    /** Deno's and Rust's. */
    readonly target: string;
    /** Debian's folder of its libraries. */
    readonly libraries: string;
    /** Where programs expect the dynamic loader. */
    readonly loader: string;
  }>
> = {
  amd64: {
    target: "x86_64-unknown-linux-gnu",
    libraries: "lib/x86_64-linux-gnu",
    loader: "lib64/ld-linux-x86-64.so.2",
  },
  arm64: {
    target: "aarch64-unknown-linux-gnu",
    libraries: "lib/aarch64-linux-gnu",
    loader: "lib/ld-linux-aarch64.so.1",
  },
};

/**
 * Reads names of architectures, each only once.
 *
 * @throws {TypeError} when the programs are not made for one of them.
 */
export function architecturesOf(names: readonly string[]): Architecture[] {
  return [...new Set(names)].map((name) => {
    const found = architectures.find((each) => each === name);
    if (found !== undefined) return found;
    throw new TypeError(`Cannot build for "${name}": expected ${architectures.join(" or ")}`);
  });
}
