/** Entries of the ledger for tests. */
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { NamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";

/** Makes an entry of a redirected pod. */
export function ledgerEntry(
  { sandbox = "sandbox-1", config = defaultRedirectConfig, ...more }: {
    readonly sandbox?: string;
    readonly config?: RedirectConfig;
    readonly netns?: string;
    readonly podName?: string;
    readonly podUid?: string;
    readonly engine?: string;
    readonly namespace?: NamespaceIdentity;
  } = {},
): LedgerEntry {
  return {
    sandbox,
    interfaceName: "eth0",
    network: "cni",
    podNamespace: "demo",
    podName: more.podName ?? "app-0",
    podUid: more.podUid ?? "uid-1",
    netns: more.netns ?? "/var/run/netns/cni-1",
    time: 1_764_000_000_000,
    version: "0.1.0",
    outcome: {
      result: "redirected",
      engine: more.engine ?? "nftables",
      namespace: more.namespace ?? {
        device: 4,
        inode: 4026532000,
        cookie: "77",
        boot: "3f1c2d4e-0000-4000-8000-000000000001",
      },
      config,
    },
  };
}
