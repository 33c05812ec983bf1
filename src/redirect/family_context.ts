import type { RedirectConfig } from "./config.ts";
import type { Cidr } from "../ip/cidr.ts";
import type { IpFamily } from "../ip/address.ts";

/** What the rules of one family are made from. */
export interface FamilyContext {
  readonly config: RedirectConfig;
  readonly family: IpFamily;
  readonly loopback: string;
  /** Address that the sidecar's inbound passthrough connections come from. */
  readonly passthrough: Cidr;
  /** The one address of the loopback interface to which applications talk directly. */
  readonly localhost: Cidr;
  /** DNS of this family is redirected. */
  readonly dns: boolean;
  /** Resolvers of this family, in their order; empty when all DNS traffic is redirected. */
  readonly dnsServers: readonly Cidr[];
  /** A chain `DOCKER_OUTPUT` exists in this family's nat table. */
  readonly dockerOutput: boolean;
}
