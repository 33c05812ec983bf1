/** Software bills of materials by SPDX 2.3, in JSON. */
import { createHash } from "node:crypto";
import type { Component } from "./components.ts";
import type { TarEntry } from "../../src/archive/tar.ts";

/** What a bill is about. */
export interface BillOptions {
  /** Name of the package, for example `kuma-cni-0.1.0-image-amd64`. */
  readonly name: string;
  /** The first is the product itself, which contains the others. */
  readonly components: readonly Component[];
  /** The files of the package; links are left out. */
  readonly files: readonly TarEntry[];
  /** Seconds since 1970. */
  readonly time?: number;
}

/**
 * Writes a bill of materials.
 *
 * @returns JSON text; the same options give the same text.
 */
export function billOfMaterials(options: BillOptions): string {
  const { name, components, time = 0 } = options;
  const packages = components.map((component, i) => ({
    SPDXID: `SPDXRef-Package-${i}`,
    name: component.name,
    versionInfo: component.version,
    supplier: component.supplier,
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    licenseConcluded: component.licence,
    licenseDeclared: component.licence,
    copyrightText: component.copyright,
    ...(component.url === undefined ? {} : {
      externalRefs: [{
        referenceCategory: "PACKAGE-MANAGER",
        referenceType: "purl",
        referenceLocator: component.url,
      }],
    }),
  }));
  const files = options.files.flatMap((entry, i) =>
    entry.kind !== "file" ? [] : [{
      SPDXID: `SPDXRef-File-${i}`,
      fileName: `./${entry.path}`,
      checksums: ["sha1", "sha256"].map((algorithm) => ({
        algorithm: algorithm.toUpperCase(),
        checksumValue: createHash(algorithm).update(entry.data).digest("hex"),
      })),
      licenseConcluded: "NOASSERTION",
      copyrightText: "NOASSERTION",
    }]
  );
  const product = packages[0]!.SPDXID;
  const relationship = (type: string, id: string) => ({
    spdxElementId: product,
    relationshipType: type,
    relatedSpdxElement: id,
  });
  const content = {
    packages,
    files,
    relationships: [
      {
        spdxElementId: "SPDXRef-DOCUMENT",
        relationshipType: "DESCRIBES",
        relatedSpdxElement: product,
      },
      ...packages.slice(1).map(({ SPDXID }) => relationship("CONTAINS", SPDXID)),
      ...files.map(({ SPDXID }) => relationship("CONTAINS", SPDXID)),
    ],
  };
  const identity = createHash("sha256").update(JSON.stringify(content)).digest("hex");
  const document = {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name,
    // Must be unique, and resolves to nothing.
    documentNamespace: `https://spdx.org/spdxdocs/${name}-${identity}`,
    creationInfo: {
      created: new Date(time * 1000).toISOString().replace(".000Z", "Z"),
      creators: ["Tool: kuma-cni deno task"],
    },
    ...content,
  };
  return JSON.stringify(document, undefined, 1) + "\n";
}
