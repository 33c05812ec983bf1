/**
 * Certificates for the tests' TLS servers: one authority and the leaves that it signs. Deno's TLS
 * refuses a certificate authority as a server certificate, so there are always two.
 */
import * as x509 from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** A certificate with its private key, both in PEM. */
export interface KeyPairPem {
  readonly certificate: string;
  readonly key: string;
}

/** What a leaf is for. */
export interface LeafOptions {
  /** The certificate's subject, for example `kube-apiserver`. */
  readonly commonName: string;
  /** Organisations in the subject; Kubernetes reads them as groups. */
  readonly organisations?: readonly string[];
  /** IP addresses in the subject alternative name. */
  readonly ips?: readonly string[];
  /** DNS names in the subject alternative name. */
  readonly dnsNames?: readonly string[];
  /** `server` (the default) or `client` authentication. */
  readonly usage?: "server" | "client";
  /** End of validity; a day from now unless told. */
  readonly notAfter?: Date;
}

/** A certificate authority that lives in memory. */
export interface Authority {
  /** The authority's own certificate in PEM. */
  readonly certificate: string;
  /** Makes a key and a certificate for it, signed by this authority. */
  issue(options: LeafOptions): Promise<KeyPairPem>;
}

/**
 * Makes a certificate authority with a fresh ECDSA P-256 key.
 *
 * @param commonName Subject of the authority; Kubernetes calls its own `kubernetes`.
 */
export async function makeAuthority(commonName = "kubernetes"): Promise<Authority> {
  const keys = await newKeys();
  const notBefore = new Date(Date.now() - 3_600_000);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [commonName] }],
    notBefore,
    notAfter: new Date(Date.now() + 10 * 86_400_000),
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    certificate: certificate.toString("pem") + "\n",
    issue: (options) => issue(options, certificate, keys, notBefore),
  };
}

async function issue(
  options: LeafOptions,
  authority: x509.X509Certificate,
  authorityKeys: CryptoKeyPair,
  notBefore: Date,
): Promise<KeyPairPem> {
  const keys = await newKeys();
  const names = [
    ...(options.ips ?? []).map((value) => ({ type: "ip" as const, value })),
    ...(options.dnsNames ?? []).map((value) => ({ type: "dns" as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: [
      ...(options.organisations ?? []).map((name) => ({ O: [name] })),
      { CN: [options.commonName] },
    ],
    issuer: authority.subject,
    notBefore,
    notAfter: options.notAfter ?? new Date(Date.now() + 86_400_000),
    publicKey: keys.publicKey,
    signingKey: authorityKeys.privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        options.usage === "client"
          ? x509.ExtendedKeyUsage.clientAuth
          : x509.ExtendedKeyUsage.serverAuth,
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(authorityKeys.publicKey),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
    ],
  });
  return { certificate: certificate.toString("pem") + "\n", key: await privateKeyPem(keys) };
}

async function newKeys(): Promise<CryptoKeyPair> {
  return await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as CryptoKeyPair;
}

/** Positive (first bit zero) and not zero, as RFC 5280 §4.1.2.2 asks. */
function newSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x01;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function privateKeyPem(keys: CryptoKeyPair): Promise<string> {
  const der = new Uint8Array(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  const lines = der.toBase64().match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`;
}
