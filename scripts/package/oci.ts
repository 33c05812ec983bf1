/**
 * Container images by the OCI image format specification 1.0, made without a container engine: what
 * `ctr images import`, `podman load`, `skopeo copy` and `docker load` take, and registries hold.
 */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { tar, type TarEntry } from "../../src/archive/tar.ts";

/** How a manifest, an index or a layer names another blob. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string; readonly os: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A descriptor with the bytes that it names. */
export interface Blob extends Descriptor {
  readonly data: Uint8Array<ArrayBuffer>;
}

/** What makes an image for one architecture. */
export interface ImageOptions {
  /** As Go names it: `amd64`, `arm64`. */
  readonly architecture: string;
  /** The files of its one layer. */
  readonly files: readonly TarEntry[];
  readonly entrypoint: readonly string[];
  readonly environment: readonly string[];
  readonly workingFolder: string;
  /** Labels of the image, which are also the annotations of its manifest. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Seconds since 1970, for the image and for its files. */
  readonly time?: number;
}

/** An image for one architecture. */
export interface Image {
  readonly architecture: string;
  readonly manifest: Blob;
  readonly config: Blob;
  readonly layers: readonly Blob[];
}

const mediaTypes = {
  config: "application/vnd.oci.image.config.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
  // Not zstd: Docker before 23 and the runtimes of its time cannot unpack that.
  layer: "application/vnd.oci.image.layer.v1.tar+gzip",
  manifest: "application/vnd.oci.image.manifest.v1+json",
} as const;

/** Level 9 takes twice as long and saves half a percent of a compiled program. */
const compression = { level: 6 } as const;

/** Compresses bytes; the result depends on nothing else. */
export function gzip(data: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(gzipSync(data, compression));
}

/**
 * Makes an image with one layer.
 *
 * @returns Its blobs; the same options give the same bytes.
 */
export function makeImage(options: ImageOptions): Image {
  const { architecture, labels = {}, time = 0 } = options;
  const platform = { architecture, os: "linux" };
  const contents = tar(options.files, time);
  const layer = blob(mediaTypes.layer, gzip(contents));
  const created = new Date(time * 1000).toISOString().replace(".000Z", "Z");
  const config = jsonBlob(mediaTypes.config, {
    created,
    ...platform,
    config: {
      Env: options.environment,
      Entrypoint: options.entrypoint,
      WorkingDir: options.workingFolder,
      Labels: labels,
    },
    rootfs: { type: "layers", diff_ids: [digestOf(contents)] },
    history: [{ created, created_by: "deno task image" }],
  });
  const manifest = jsonBlob(mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: descriptorOf(config),
    layers: [descriptorOf(layer)],
    annotations: labels,
  });
  return { architecture, manifest: { ...manifest, platform }, config, layers: [layer] };
}

/**
 * Makes the index of an image for several architectures.
 *
 * @param images One for each architecture.
 * @param annotations Of the index.
 */
export function makeIndex(
  images: readonly Image[],
  annotations: Readonly<Record<string, string>> = {},
): Blob {
  return jsonBlob(mediaTypes.index, {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests: images.map(({ manifest }) => descriptorOf(manifest)),
    annotations,
  });
}

/**
 * Writes an image as an archive with an OCI image layout. For `docker load` of old it also has the
 * `manifest.json` of `docker save`, which others ignore.
 *
 * @param reference Name of the image, with registry and tag.
 * @param images One for each architecture; several are tied together by an index.
 * @param index The index of several images.
 * @returns The bytes of the tar archive.
 */
export function imageArchive(
  reference: string,
  images: readonly Image[],
  index?: Blob,
): Uint8Array<ArrayBuffer> {
  const [first] = images;
  if (first === undefined) throw new TypeError("An image archive needs an image");
  const entry = {
    ...descriptorOf(index ?? first.manifest),
    annotations: {
      "io.containerd.image.name": reference,
      "org.opencontainers.image.ref.name": reference,
    },
  };
  const blobs = [
    ...(index === undefined ? [] : [index]),
    ...images.flatMap(({ manifest, config, layers }) => [manifest, config, ...layers]),
  ];
  const file = (path: string, data: Uint8Array): TarEntry => ({
    path,
    kind: "file",
    mode: 0o644,
    data,
  });
  const folder = (path: string): TarEntry => ({ path, kind: "folder" });
  return tar([
    file("oci-layout", json({ imageLayoutVersion: "1.0.0" })),
    file("index.json", json({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [entry] })),
    file(
      "manifest.json",
      json([{
        Config: pathOf(first.config),
        RepoTags: [reference],
        Layers: first.layers.map(pathOf),
      }]),
    ),
    folder("blobs"),
    folder("blobs/sha256"),
    ...[...new Map(blobs.map((each) => [each.digest, each])).values()]
      .map((each) => file(pathOf(each), each.data)),
  ]);
}

/** The descriptor of a blob, without its bytes. */
export function descriptorOf({ data: _, ...descriptor }: Blob): Descriptor {
  return descriptor;
}

/** `sha256:` and 64 hexadecimal digits. */
export function digestOf(data: Uint8Array): string {
  return "sha256:" + createHash("sha256").update(data).digest("hex");
}

function pathOf({ digest }: Descriptor): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function blob(mediaType: string, data: Uint8Array<ArrayBuffer>): Blob {
  return { mediaType, digest: digestOf(data), size: data.length, data };
}

function jsonBlob(mediaType: string, value: unknown): Blob {
  return blob(mediaType, json(value));
}

function json(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value));
}
