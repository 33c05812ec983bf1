/**
 * Makes the kubeconfig's authority the only one that is trusted. Deno otherwise adds it to a list of
 * its own, which it makes once, with the first use of TLS, of public authorities or of what these
 * variables name: a server of any other authority on that list got the token.
 */
import { withVariables } from "./environment.ts";

/**
 * What the list is made from, and what makes it empty: a file without certificates. It must be there,
 * else the first connection fails; hosts without /dev/null have been seen, none without /proc.
 */
const ofAnEmptyList: Readonly<Record<string, string | undefined>> = {
  DENO_CERT: undefined,
  DENO_TLS_CA_STORE: "system",
  SSL_CERT_DIR: undefined,
  SSL_CERT_FILE: "/proc/version",
};

let listIsMade = false;

/**
 * Makes Deno's list of authorities empty, unless an earlier use of TLS has made it. Then only those
 * that are given with a connection count, for the rest of the process's life. Needs `--allow-env` for
 * the four variables.
 *
 * @param work Uses TLS before it returns, if only to begin with: that makes the list.
 * @returns What `work` returns.
 */
export function trustingNobodyElse<T>(work: () => T): T {
  if (listIsMade) return work();
  const result = withVariables(ofAnEmptyList, work);
  listIsMade = true;
  return result;
}
