/** The part of a Kubernetes Pod that this project reads, parsed from what an API server sent. */

/** A pod, reduced to what decides about its traffic. */
export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly containerNames: readonly string[];
  readonly initContainerNames: readonly string[];
}
