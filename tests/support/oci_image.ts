/**
 * Container images made from local files, as an OCI image layout in a tar archive that
 * `ctr images import` takes: there is no registry to pull from.
 */
import { createHash } from "node:crypto";

/** One file of an image. */
export interface ImageFile {
  /** Absolute path inside the image. */
  readonly path: string;
  readonly data: Uint8Array;
}

/**
 * Builds a single-layer image for linux/amd64.
 *
 * @param reference Image name, for example `kuma-test.local/pause:1`.
 * @param entrypoint Command of the image.
 * @param files Files of the single layer; their folders are created.
 * @returns The bytes of the tar archive.
 */
export function ociImage(
  reference: string,
  entrypoint: readonly string[],
  files: readonly ImageFile[],
): Uint8Array<ArrayBuffer> {
  const layer = tar(layerEntries(files));
  const config = json({
    architecture: "amd64",
    os: "linux",
    config: { Entrypoint: entrypoint, Env: ["PATH=/bin"], WorkingDir: "/" },
    rootfs: { type: "layers", diff_ids: [digest(layer)] },
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: descriptor("application/vnd.oci.image.config.v1+json", config),
    layers: [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
  });
  const index = json({
    schemaVersion: 2,
    manifests: [{
      ...descriptor("application/vnd.oci.image.manifest.v1+json", manifest),
      platform: { architecture: "amd64", os: "linux" },
      annotations: {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
      },
    }],
  });
  return tar([
    { path: "oci-layout", data: json({ imageLayoutVersion: "1.0.0" }) },
    { path: "index.json", data: index },
    ...[layer, config, manifest].map((blob) => ({
      path: "blobs/sha256/" + digest(blob).slice("sha256:".length),
      data: blob,
    })),
  ]);
}

interface TarEntry {
  readonly path: string;
  /** Absent for a folder. */
  readonly data?: Uint8Array;
}

function layerEntries(files: readonly ImageFile[]): TarEntry[] {
  const folders = new Set<string>();
  for (const { path } of files) {
    const parts = path.split("/").filter((part) => part !== "").slice(0, -1);
    parts.forEach((_, index) => folders.add(parts.slice(0, index + 1).join("/") + "/"));
  }
  return [
    ...[...folders].sort().map((path) => ({ path })),
    ...files.map(({ path, data }) => ({ path: path.replace(/^\/+/, ""), data })),
  ];
}

/** A POSIX ustar archive, everything mode 0755 and owned by root. */
function tar(entries: readonly TarEntry[]): Uint8Array<ArrayBuffer> {
  const blocks: Uint8Array[] = [];
  for (const { path, data } of entries) {
    const header = new Uint8Array(512);
    const put = (offset: number, text: string) =>
      header.set(new TextEncoder().encode(text), offset);
    put(0, path);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, (data?.length ?? 0).toString(8).padStart(11, "0") + "\0");
    put(136, "00000000000\0");
    put(148, " ".repeat(8));
    put(156, data === undefined ? "5" : "0");
    put(257, "ustar\0" + "00");
    const sum = header.reduce((total, byte) => total + byte, 0);
    put(148, sum.toString(8).padStart(6, "0") + "\0 ");
    blocks.push(header);
    if (data !== undefined) {
      blocks.push(data, new Uint8Array((512 - data.length % 512) % 512));
    }
  }
  blocks.push(new Uint8Array(1024));
  const archive = new Uint8Array(blocks.reduce((total, block) => total + block.length, 0));
  let offset = 0;
  for (const block of blocks) {
    archive.set(block, offset);
    offset += block.length;
  }
  return archive;
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function digest(data: Uint8Array): string {
  return "sha256:" + createHash("sha256").update(data).digest("hex");
}

function descriptor(mediaType: string, data: Uint8Array): Record<string, unknown> {
  return { mediaType, digest: digest(data), size: data.length };
}
