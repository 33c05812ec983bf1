/** Sends images to a registry by the OCI distribution specification 1.1. */
import { type Blob, digestOf, type Image } from "./oci.ts";
import { RegistryClient, RegistryError, type RegistryOptions } from "./registry_client.ts";

/** What is sent, and how. */
export interface PushOptions extends Omit<RegistryOptions, "repository"> {
  readonly repository: string;
  readonly tag: string;
  readonly images: readonly Image[];
  /** The index of several images. */
  readonly index?: Blob;
  /** Bytes of a request's body at most; by default a blob is sent as one. */
  readonly chunkSize?: number;
  /** Takes lines for people. */
  readonly say?: (line: string) => void;
}

/**
 * Sends blobs that the registry lacks, then the manifests, then the tag, and looks whether the tag
 * names what was sent. Interrupted at any point, the tag names the old image or the new one.
 *
 * @returns Digest of what the tag names.
 * @throws {RegistryError} when the registry does not take it.
 */
export async function push(options: PushOptions): Promise<string> {
  const { images, index, tag, say = () => {} } = options;
  const client = new RegistryClient(options);
  const blobs = images.flatMap(({ config, layers }) => [...layers, config]);
  for (const blob of new Map(blobs.map((each) => [each.digest, each])).values()) {
    const sent = await sendBlob(client, blob, options);
    say(`${blob.digest}: ${sent ? `${blob.size} bytes sent` : "is there already"}`);
  }
  const top = index ?? images[0]!.manifest;
  // An index may only name manifests that are there.
  if (index !== undefined) {
    for (const { manifest } of images) await sendManifest(client, manifest, manifest.digest);
  }
  await sendManifest(client, top, tag);
  await verify(client, top, tag);
  return top.digest;
}

async function sendBlob(
  client: RegistryClient,
  blob: Blob,
  { chunkSize }: PushOptions,
): Promise<boolean> {
  if (await isThere(client, blob)) return false;
  for (let attempt = 1;; attempt++) {
    try {
      const location = await startUpload(client);
      const rest = chunkSize === undefined || blob.size <= chunkSize
        ? { location, bytes: blob.data }
        : await sendChunks(client, blob, location, chunkSize);
      const end = client.resolve(rest.location);
      end.searchParams.set("digest", blob.digest);
      const response = await client.send({
        method: "PUT",
        url: end.href,
        headers: { "content-type": "application/octet-stream" },
        body: rest.bytes,
        expected: [201],
        what: `finish the upload of blob ${blob.digest}`,
        // The registry may have taken it and only its answer is lost: what it has then is asked below.
        repeatable: false,
      });
      await response.body?.cancel();
      return true;
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      const { status } = error;
      const passing = status === undefined || status === 404 || status === 416 || status === 429 ||
        status >= 500;
      if (!passing || attempt === 3) throw error;
      await client.wait(attempt);
      if (await isThere(client, blob)) return true;
    }
  }
}

async function isThere(client: RegistryClient, { digest }: Blob): Promise<boolean> {
  const response = await client.send({
    method: "HEAD",
    url: `blobs/${digest}`,
    expected: [200, 404],
    what: `ask for blob ${digest}`,
  });
  await response.body?.cancel();
  return response.status === 200;
}

async function startUpload(client: RegistryClient): Promise<string> {
  return await locationOf(client, {
    method: "POST",
    url: "blobs/uploads/",
    expected: [202],
    what: "start an upload",
  });
}

/** Sends a blob in parts; each answer tells where the next one goes. */
async function sendChunks(
  client: RegistryClient,
  blob: Blob,
  start: string,
  chunkSize: number,
): Promise<{ location: string; bytes: Uint8Array<ArrayBuffer> }> {
  let location = start;
  for (let at = 0; at < blob.size; at += chunkSize) {
    const bytes = blob.data.subarray(at, at + chunkSize);
    location = await locationOf(client, {
      method: "PATCH",
      url: location,
      headers: {
        "content-type": "application/octet-stream",
        "content-range": `${at}-${at + bytes.length - 1}`,
      },
      body: bytes,
      expected: [202],
      what: `send bytes from ${at} of blob ${blob.digest}`,
      // A part that has arrived twice is an error; the whole upload starts anew instead.
      repeatable: false,
    });
  }
  return { location, bytes: new Uint8Array() };
}

async function locationOf(
  client: RegistryClient,
  request: Parameters<RegistryClient["send"]>[0],
): Promise<string> {
  const response = await client.send(request);
  await response.body?.cancel();
  const location = response.headers.get("location");
  if (location !== null) return client.resolve(location).href;
  throw new RegistryError(`Cannot ${request.what}: the registry does not tell where it goes on`);
}

async function sendManifest(client: RegistryClient, manifest: Blob, name: string): Promise<void> {
  const response = await client.send({
    method: "PUT",
    url: `manifests/${name}`,
    headers: { "content-type": manifest.mediaType },
    body: manifest.data,
    expected: [201],
    what: `send manifest "${name}"`,
  });
  await response.body?.cancel();
}

async function verify(client: RegistryClient, { digest, mediaType }: Blob, tag: string) {
  const response = await client.send({
    method: "GET",
    url: `manifests/${tag}`,
    headers: { accept: mediaType },
    expected: [200],
    what: `read tag "${tag}" back`,
  });
  const actual = digestOf(new Uint8Array(await response.arrayBuffer()));
  if (actual !== digest) {
    throw new RegistryError(
      `Tag "${tag}" names ${actual} at the registry, expected ${digest}: somebody else has pushed ` +
        "it at the same time, or the registry changes what it is given",
    );
  }
}
