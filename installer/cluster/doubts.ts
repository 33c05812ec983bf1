/**
 * States in which everything is installed and meshed pods may not start all the same: the API server
 * does not answer, refuses the account, or will. They are told before a pod finds them out. Pure, but
 * for reading the token's end.
 */
import { parseKubeconfig } from "../../src/kubernetes/kubeconfig.ts";
import type {
  ConnectionFailureKind,
  ConnectionState,
} from "../../src/kubernetes/connection_state.ts";
import { isOverdue, type TokenTimes, tokenTimes } from "../../src/kubernetes/token_expiry.ts";
import { readRegularFile } from "../../src/linux/regular_file.ts";

/** Every kind of doubt; a bounded set, used as a label of metrics. */
export type DoubtCode = `api-${ConnectionFailureKind}` | "token-expired" | "token-expires";

/** One reason why meshed pods may not start. */
export interface Doubt {
  readonly code: DoubtCode;
  /** In words for people. */
  readonly text: string;
}

const words: Record<Exclude<ConnectionFailureKind, "forbidden">, string> = {
  unreachable: "The API server cannot be reached",
  timeout: "The API server does not answer in time",
  tls: "The API server's certificate is not accepted",
  unauthorized: "The API server refuses the service account's token (401)",
  unavailable: "The API server cannot answer now",
  content: "What answers at the API server's address is not an API server",
  credentials: "The service account's token or its cluster's authority cannot be read",
};

/**
 * Returns all doubts.
 *
 * @param state How the last requests to the API server went.
 * @param token When the token on the host was made and until when it is good; `undefined` without one.
 * @param now The clock, in milliseconds since the epoch.
 * @param patience Milliseconds that trouble must last before it counts: a connection that breaks and
 * comes back is none.
 */
export function doubtsOf(
  state: Pick<ConnectionState, "problem" | "problemSince" | "forbidden">,
  token: TokenTimes | undefined,
  now: number,
  patience: number,
): Doubt[] {
  const doubts: Doubt[] = [];
  const { problem, problemSince = now } = state;
  if (problem !== undefined && problem.kind !== "forbidden" && now - problemSince >= patience) {
    const text = `${words[problem.kind]}, so pods that this agent does not know cannot start: ` +
      problem.reason;
    doubts.push({ code: `api-${problem.kind}`, text });
  }
  if (state.forbidden.includes("get")) {
    doubts.push({
      code: "api-forbidden",
      text:
        "The service account may not get pods (403), so pods cannot be looked up; restore its " +
        "ClusterRole and ClusterRoleBinding",
    });
  }
  const expiry = token?.expires;
  if (token !== undefined && expiry !== undefined && isOverdue(token, now)) {
    const time = new Date(expiry).toISOString().replace(".000Z", "Z");
    doubts.push(
      expiry <= now
        ? { code: "token-expired", text: `The token on the host has expired at ${time}` }
        : {
          code: "token-expires",
          text: `The token on the host expires at ${time} and has not been renewed`,
        },
    );
  }
  return doubts;
}

/** The times of the token in a kubeconfig of ours; `undefined` when it cannot be read. */
export function tokenInKubeconfig(path: string): TokenTimes | undefined {
  try {
    const text = new TextDecoder().decode(readRegularFile(path));
    return tokenTimes(parseKubeconfig(text, path).token ?? "");
  } catch {
    return undefined;
  }
}
