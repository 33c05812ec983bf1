/** Net dirs with Multus in front, which both runtimes call alike. */
import type { Called, RuntimeCase } from "../../support/runtime_cases.ts";

const list = (name: string, ...types: string[]) => ({
  cniVersion: "1.0.0",
  name,
  plugins: types.map((type) => ({ type })),
});
const text = (name: string, ...types: string[]) => JSON.stringify(list(name, ...types));
/** The stand-in finds its values by their place: `name` stands last. */
const multus = (extra: Record<string, unknown>) =>
  JSON.stringify({ type: "multus", cniVersion: "1.0.0", ...extra, name: "multus" });

/** A net dir of the matrix. */
export interface MatrixCase extends RuntimeCase {
  /** The plugins but ours that Multus calls, when it is in front. */
  readonly primary?: readonly string[];
}

/** The net dirs; what the runtime itself loads is always Multus. */
export const multusCases: readonly MatrixCase[] = [
  {
    name: "Multus names the primary's file",
    primary: ["a", "b"],
    files: {
      "00-multus.conf": multus({ clusterNetwork: "/etc/cni/net.d/10-a.conflist" }),
      "10-a.conflist": text("a", "a", "b"),
    },
  },
  {
    name: "Multus names the second file",
    primary: ["b"],
    files: {
      "00-multus.conf": multus({ clusterNetwork: "/etc/cni/net.d/20-b.conflist" }),
      "10-a.conflist": text("a", "a"),
      "20-b.conflist": text("b", "b"),
    },
  },
  {
    name: "Multus holds a copy of the primary's list",
    primary: ["a"],
    files: {
      "00-multus.conf": multus({ delegates: [list("a", "a")] }),
      "10-a.conflist": text("a", "a"),
    },
  },
  {
    name: "Multus behind the primary's file",
    primary: [],
    files: {
      "10-a.conflist": text("a", "a"),
      "90-multus.conf": multus({ delegates: [list("b", "b")] }),
    },
  },
].map(({ primary, ...wanted }) => {
  const first: Called = primary.length === 0
    ? ["10-a.conflist", "a"]
    : ["00-multus.conf", "multus"];
  return { ...wanted, primary, containerd: [first], crio: first };
});
