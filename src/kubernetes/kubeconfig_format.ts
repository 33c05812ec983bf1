/** The kubeconfig that the installer writes for the plugin. */

/** What the kubeconfig holds. */
export interface KubeconfigValues {
  /** For example `https://10.96.0.1:443`; an IPv6 host stands in brackets. */
  readonly server: string;
  /** The cluster's certificate authority, PEM. */
  readonly certificateAuthority: string | Uint8Array<ArrayBuffer>;
  /** The bearer token, without line end. */
  readonly token: string;
}

/**
 * Formats a kubeconfig with the reference installer's structure: one leading comment line, one
 * cluster `local`, one user `kuma-cni`, one context `kuma-cni-context`, no trailing newline. It is
 * written as JSON, which is YAML, so that the plugin can read it without a parser of YAML.
 *
 * @throws {TypeError} when the server or the token cannot be one: no URL and no bearer token (RFC 6750
 * §2.1) has white space, quotes and the like.
 */
export function formatKubeconfig(values: KubeconfigValues): string {
  if (!/^[A-Za-z]+:\/\/[A-Za-z0-9._:[\]/-]+$/.test(values.server)) {
    throw new TypeError(
      `Cannot write the API server's address ${
        JSON.stringify(values.server)
      } into a kubeconfig: expected "<protocol>://<host>:<port>"`,
    );
  }
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(values.token)) {
    throw new TypeError(
      "Cannot write the service account's token into a kubeconfig: expected letters, digits and " +
        '"-._~+/=" only, as RFC 6750 has it',
    );
  }
  const authority = typeof values.certificateAuthority === "string"
    ? new TextEncoder().encode(values.certificateAuthority)
    : values.certificateAuthority;
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{
      name: "local",
      cluster: {
        server: values.server,
        "certificate-authority-data": authority.toBase64(),
      },
    }],
    users: [{ name: "kuma-cni", user: { token: values.token } }],
    contexts: [{ name: "kuma-cni-context", context: { cluster: "local", user: "kuma-cni" } }],
    "current-context": "kuma-cni-context",
  };
  return "# Kubeconfig of the CNI plugin kuma-cni, written by install-cni: JSON, which is YAML\n" +
    JSON.stringify(config, null, 2);
}
