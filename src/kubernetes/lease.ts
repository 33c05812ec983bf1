/** A Lease (coordination.k8s.io/v1), reduced to what an election needs, and the way to take one. */
import { isRecord } from "../json/record.ts";
import type { JsonPatch } from "./changes.ts";
import type { KubernetesClient } from "./client.ts";
import { ApiError } from "./errors.ts";

/** Which Lease it is. */
export interface LeaseName {
  readonly namespace: string;
  readonly name: string;
}

/** A Lease, reduced. */
export interface Lease {
  /** Name of the process that leads; empty: nobody does. */
  readonly holder: string;
  readonly version: string;
  readonly durationMilliseconds: number;
  readonly transitions: number;
  readonly acquired: string | undefined;
}

/** Path of a namespace's Leases in the API. */
export function leasesPath(namespace: string): string {
  return `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
}

/** The Lease, as messages name it. */
export function leaseText({ namespace, name }: LeaseName): string {
  return `Lease "${namespace}/${name}"`;
}

/**
 * Parses a v1 Lease.
 *
 * @throws {TypeError} when it is not one.
 */
export function parseLease(json: Record<string, unknown>): Lease {
  const metadata = isRecord(json.metadata) ? json.metadata : {};
  const spec = isRecord(json.spec) ? json.spec : {};
  if (typeof metadata.resourceVersion !== "string") {
    throw new TypeError('Not a Lease: "metadata.resourceVersion" is missing');
  }
  const { leaseDurationSeconds: seconds, leaseTransitions: transitions } = spec;
  return {
    holder: typeof spec.holderIdentity === "string" ? spec.holderIdentity : "",
    version: metadata.resourceVersion,
    durationMilliseconds: typeof seconds === "number" && seconds > 0 ? seconds * 1000 : 15_000,
    transitions: typeof transitions === "number" ? transitions : 0,
    acquired: typeof spec.acquireTime === "string" ? spec.acquireTime : undefined,
  };
}

/** The form of Kubernetes' MicroTime. */
export function microTime(date: Date): string {
  return date.toISOString().replace(/Z$/, "000Z");
}

/**
 * Takes a Lease from whoever has it, so that nobody acts for a while: a leader stops at its next
 * renewal, and at the latest when it cannot renew any longer.
 *
 * @param milliseconds For so long the others keep away.
 * @returns False when there is no such Lease, so that nobody leads.
 * @throws {ApiError} when it cannot be changed.
 */
export async function takeLease(
  client: KubernetesClient,
  lease: LeaseName & { readonly identity: string; readonly signal: AbortSignal },
  milliseconds: number,
): Promise<boolean> {
  const now = microTime(new Date());
  const operations: JsonPatch[] = [
    { op: "add", path: "/spec/holderIdentity", value: lease.identity },
    { op: "add", path: "/spec/leaseDurationSeconds", value: Math.ceil(milliseconds / 1000) },
    { op: "add", path: "/spec/acquireTime", value: now },
    { op: "add", path: "/spec/renewTime", value: now },
  ];
  const path = `${leasesPath(lease.namespace)}/${lease.name}`;
  const options = { what: leaseText(lease), signal: lease.signal };
  try {
    await client.change({ verb: "patch", path, operations }, options);
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}
