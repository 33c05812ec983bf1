/**
 * Makes the container image of both programs, without a container engine, and sends it to a registry
 * when it is asked to. The same sources give the same bytes.
 *
 * Usage: deno task image (see its `--help`)
 */
import { parseArgs } from "node:util";
import { VERSION } from "../src/version.ts";
import { root } from "./deno_tools.ts";
import { type Architecture, architecturesOf, ownArchitecture } from "./package/architecture.ts";
import { findBusybox } from "./package/busybox.ts";
import { imageFiles, pluginFolder } from "./package/image_files.ts";
import { digestOf, type Image, imageArchive, makeImage, makeIndex } from "./package/oci.ts";
import { buildPrograms, type Programs, readDocuments } from "./package/programs.ts";
import { push } from "./package/push.ts";
import { parseReference } from "./package/reference.ts";
import { findCredentials } from "./package/registry_credentials.ts";
import { packageTime } from "./package/time.ts";
import { supervise } from "./supervise.ts";

/** An image with the bill of materials that stands beside its archive. */
export interface BilledImage {
  readonly image: Image;
  readonly bill: string;
}

/** Name of an image that was never pushed anywhere, as Podman has it. */
export const defaultName = `localhost/kuma-cni:${VERSION}`;

const labels = {
  "org.opencontainers.image.title": "kuma-cni",
  "org.opencontainers.image.description":
    "CNI plugin that captures the traffic of a Kuma mesh's pods, and its node agent",
  "org.opencontainers.image.version": VERSION,
  "org.opencontainers.image.licenses": "Apache-2.0",
};

/**
 * Makes the image for an architecture of programs that are built.
 *
 * @param architecture What the programs run on.
 * @param programs Both programs and their libraries.
 * @param options `busybox`: the shell, by default Debian's; `time`: seconds since 1970.
 */
export async function billedImage(
  architecture: Architecture,
  programs: Programs,
  options: { readonly busybox?: Uint8Array<ArrayBuffer>; readonly time?: number } = {},
): Promise<BilledImage> {
  const { time = 0 } = options;
  const busybox = options.busybox ?? await findBusybox(architecture);
  const documents = await readDocuments();
  const { files, bill } = imageFiles({ architecture, programs, busybox, documents, time });
  const image = makeImage({
    architecture,
    files,
    entrypoint: ["/install-cni"],
    environment: [
      `PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/${pluginFolder}`,
    ],
    workingFolder: `/${pluginFolder}`,
    labels,
    time,
  });
  return { image, bill };
}

const help = `Usage: deno task image [--arch ARCH]... [--name NAME] [--output FILE] [--push NAME]

Builds both programs and writes a container image as an archive that "ctr images import",
"podman load", "docker load" and "skopeo copy oci-archive:..." take, with its bill of materials.

  --arch ARCH         amd64 or arm64, by default the machine's own; several make one image for all.
                      arm64 needs its denort: see deno task build --help
  --name NAME         name of the image in the archive, REGISTRY/REPOSITORY:TAG; by default
                      ${defaultName}
  --output FILE       the archive; by default dist/kuma-cni-${VERSION}-image-ARCH.tar
  --push NAME         send the image to REGISTRY/REPOSITORY:TAG, with the credentials of
                      "docker login"; no archive is written unless --output is there, too
  --plain-http        push without TLS, which otherwise only registries of this machine get
  --chunk-size MIB    push big blobs in parts, where a proxy limits the size of requests
  --busybox FILE      static busybox to take instead of Debian 12's package busybox-static
  --libraries FOLDER  folder with the loader and C library of the one architecture that is built

Environment:
  DENORT_BIN          denort to compile with
  DOCKER_CONFIG       folder of the config.json that "docker login" writes; by default ~/.docker
  DENO_TLS_CA_STORE   "system" where the registry's certificate is of the machine's own authority
  SOURCE_DATE_EPOCH   time of the image in seconds since 1970; by default 0
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      arch: { type: "string", multiple: true },
      name: { type: "string" },
      output: { type: "string" },
      push: { type: "string" },
      "plain-http": { type: "boolean" },
      "chunk-size": { type: "string" },
      busybox: { type: "string" },
      libraries: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help.trimEnd());
    return 0;
  }
  const chosen = architecturesOf(values.arch ?? [ownArchitecture]);
  const target = values.push === undefined ? undefined : parseReference(values.push);
  const name = values.name ?? values.push ?? defaultName;
  parseReference(name);
  const chunkSize = chunkSizeOf(values["chunk-size"]);
  const time = packageTime();
  for (const file of ["busybox", "libraries"] as const) {
    if (values[file] === undefined || chosen.length === 1) continue;
    throw new TypeError(`--${file} is for one architecture: give --arch once`);
  }

  const billed: BilledImage[] = [];
  for (const architecture of chosen) {
    const programs = await buildPrograms(architecture, values.libraries);
    const busybox = await findBusybox(architecture, values.busybox);
    billed.push(await billedImage(architecture, programs, { busybox, time }));
  }
  const images = billed.map(({ image }) => image);
  const index = images.length > 1 ? makeIndex(images, labels) : undefined;
  for (const { architecture, layers } of images) {
    const size = layers.reduce((sum, layer) => sum + layer.size, 0);
    console.log(`${architecture}: ${megabytes(size)} compressed`);
  }
  if (target === undefined || values.output !== undefined) {
    const path = values.output ??
      `${root}/dist/kuma-cni-${VERSION}-image-${chosen.join("-")}.tar`;
    const archive = imageArchive(name, images, index);
    await Deno.writeFile(path, archive);
    for (const { image, bill } of billed) {
      const suffix = billed.length === 1 ? "" : `-${image.architecture}`;
      await Deno.writeTextFile(`${path.replace(/\.tar$/, "")}${suffix}.spdx.json`, bill);
    }
    console.log(`${path}: ${megabytes(archive.length)}, ${digestOf(archive)}`);
    console.log(`${name}: ${(index ?? images[0]!.manifest).digest}`);
  }
  if (target === undefined) return 0;
  const credentials = await findCredentials(target.registry);
  const digest = await push({
    ...target,
    images,
    ...(index === undefined ? {} : { index }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(values["plain-http"] ? { plain: true } : {}),
    ...(chunkSize === undefined ? {} : { chunkSize }),
    say: console.error,
  });
  console.log(`${values.push}@${digest}`);
  return 0;
}

function chunkSizeOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const mebibytes = Number(text);
  if (Number.isInteger(mebibytes) && mebibytes > 0) return mebibytes * 2 ** 20;
  throw new TypeError(`--chunk-size is "${text}": expected a whole number of MiB, such as 8`);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

if (import.meta.main) await supervise(import.meta.url, main);
