/** Credentials for registries, where `docker login` and its like have put them. */
import { isRecord } from "../../src/json/record.ts";
import { messageOf } from "../../src/text/message_of.ts";

/** How to log in to a registry. */
export type Credentials =
  | { readonly kind: "password"; readonly user: string; readonly password: string }
  /** A token that is exchanged for others (`docker login` by a web page). */
  | { readonly kind: "refresh"; readonly token: string };

/** The file of credentials cannot be used; the message tells why. */
export class CredentialsError extends Error {
  override readonly name = "CredentialsError";
}

interface Entry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
}

interface DockerConfig {
  readonly auths?: Readonly<Record<string, Entry>>;
  readonly credHelpers?: Readonly<Record<string, string>>;
  readonly credsStore?: string;
}

/** Docker's own registry stands under another name in the file than in names of images. */
const otherKeys: Readonly<Record<string, string>> = {
  "docker.io": "https://index.docker.io/v1/",
};

/**
 * Finds the credentials for a registry in Docker's `config.json`, or from the credential helper that
 * it names.
 *
 * @param registry Host and port as in an image's name.
 * @param path The file; by default `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
 * @returns The credentials; undefined when there are none.
 * @throws {CredentialsError} when the file is not what Docker writes, or a helper fails.
 */
export async function findCredentials(
  registry: string,
  path: string = configPath(),
): Promise<Credentials | undefined> {
  const config = await readConfig(path);
  const key = otherKeys[registry] ?? registry;
  const helper = config.credHelpers?.[registry];
  if (helper !== undefined) return await askHelper(helper, key);
  const entry = Object.entries(config.auths ?? {})
    .find(([name]) => name === key || hostOf(name) === registry)?.[1];
  if (entry !== undefined && Object.keys(entry).length > 0) return fromEntry(entry, registry, path);
  return config.credsStore === undefined ? undefined : await askHelper(config.credsStore, key);
}

function configPath(): string {
  const folder = Deno.env.get("DOCKER_CONFIG") || `${Deno.env.get("HOME") ?? ""}/.docker`;
  return `${folder}/config.json`;
}

async function readConfig(path: string): Promise<DockerConfig> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
  try {
    const value = JSON.parse(text);
    if (isRecord(value)) return value;
  } catch {
    // Said below, without the text: it has passwords.
  }
  throw new CredentialsError(`Cannot read credentials from "${path}": it is not a JSON object`);
}

function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}

function fromEntry(entry: Entry, registry: string, path: string): Credentials {
  if (entry.identitytoken) return { kind: "refresh", token: entry.identitytoken };
  if (entry.username !== undefined && entry.password !== undefined) {
    return { kind: "password", user: entry.username, password: entry.password };
  }
  let text = "";
  try {
    const bytes = Uint8Array.from(atob(entry.auth ?? ""), (letter) => letter.charCodeAt(0));
    text = new TextDecoder().decode(bytes);
  } catch {
    // Said below.
  }
  const colon = text.indexOf(":");
  if (colon < 0) {
    throw new CredentialsError(
      `Cannot read the credentials for "${registry}" in "${path}": "auth" is not USER:PASSWORD in ` +
        "base64; log in anew",
    );
  }
  return { kind: "password", user: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** Helpers read a server's name and print JSON (docker-credential-helpers). */
async function askHelper(name: string, server: string): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  let output: Deno.CommandOutput;
  try {
    const child = new Deno.Command(program, {
      args: ["get"],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    await new Blob([server]).stream().pipeTo(child.stdin);
    output = await child.output();
  } catch (error) {
    throw new CredentialsError(
      `Cannot ask "${program}" for the credentials of "${server}": ` +
        messageOf(error),
    );
  }
  const text = new TextDecoder().decode(output.stdout).trim();
  if (!output.success) {
    if (/credentials not found/i.test(text)) return undefined;
    throw new CredentialsError(`"${program}" has no credentials for "${server}": ${text}`);
  }
  const { Username: user, Secret: secret } = JSON.parse(text) as Record<string, string>;
  if (user === undefined || secret === undefined) {
    throw new CredentialsError(`"${program}" did not answer with user and secret for "${server}"`);
  }
  // The helpers' way of saying that the secret is no password.
  return user === "<token>"
    ? { kind: "refresh", token: secret }
    : { kind: "password", user, password: secret };
}
