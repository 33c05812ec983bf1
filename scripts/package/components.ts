/** The software of others in what is built, with its versions, for bills of materials. */
import project from "../../deno.json" with { type: "json" };
import { VERSION } from "../../src/version.ts";
import type { Architecture } from "./architecture.ts";
import type { Programs } from "./programs.ts";

/** A component of a package. */
export interface Component {
  readonly name: string;
  readonly version: string;
  /** SPDX licence expression. */
  readonly licence: string;
  readonly copyright: string;
  /** Package URL, by which scanners find known vulnerabilities. */
  readonly url?: string;
  readonly supplier: string;
}

const denoAuthors = "Copyright the Deno authors";

/**
 * Lists the components of both programs, their libraries, and the shell when there is one. Versions
 * come from the files themselves.
 */
export function componentsOf(
  architecture: Architecture,
  programs: Programs,
  busybox?: Uint8Array,
): Component[] {
  const { plugin, libraries } = programs;
  const runtime = /Deno\/(\d+\.\d+\.\d+)/;
  const deno = textIn(plugin, runtime) ?? "unknown";
  const v8 = textIn(plugin, /(\d+\.\d+\.\d+\.\d+)-rusty/) ?? "unknown";
  const glibc = textIn(
    libraries.files.get("libc.so.6")!,
    /GNU C Library \((?:[A-Za-z]+ E?GLIBC )?([^)]+)\)/,
  ) ?? "unknown";
  const deb = (name: string, version: string) =>
    `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
  const shell = busybox === undefined
    ? undefined
    : textIn(busybox, /BusyBox v[\d.]+ \((?:Debian )?([^)]+)\)/) ?? "unknown";
  return [
    {
      name: "kuma-cni",
      version: VERSION,
      licence: project.license,
      copyright: "Copyright the kuma-cni authors",
      supplier: "Organization: the kuma-cni authors",
    },
    {
      name: "deno",
      version: deno,
      licence: "MIT",
      copyright: denoAuthors,
      url: `pkg:github/denoland/deno@v${deno}`,
      supplier: "Organization: Deno Land Inc.",
    },
    {
      name: "v8",
      version: v8,
      licence: "BSD-3-Clause",
      copyright: "Copyright the V8 project authors",
      url: `pkg:github/v8/v8@${v8}`,
      supplier: "Organization: the V8 project authors",
    },
    npm("@std/yaml/parse", "MIT", denoAuthors, "Organization: Deno Land Inc."),
    npm("commander", "MIT", "Copyright 2011 TJ Holowaychuk", "Person: TJ Holowaychuk"),
    {
      name: "glibc",
      version: glibc,
      licence: "LGPL-2.1-or-later",
      copyright: "Copyright the Free Software Foundation and others",
      url: deb("glibc", glibc),
      supplier: "Organization: GNU",
    },
    {
      name: "libgcc",
      // The file does not tell; its hash stands among those of the files.
      version: "unknown",
      licence: "GPL-3.0-or-later WITH GCC-exception-3.1",
      copyright: "Copyright the Free Software Foundation",
      supplier: "Organization: GNU",
    },
    ...(shell === undefined ? [] : [{
      name: "busybox",
      version: shell,
      licence: "GPL-2.0-only",
      copyright: "Copyright Erik Andersen, Rob Landley, Denys Vlasenko and others",
      url: deb("busybox-static", shell),
      supplier: "Organization: Debian",
    }]),
  ];
}

/** A package of npm that `deno.json` names, with its exact version. */
function npm(
  name: keyof typeof project.imports,
  licence: string,
  copyright: string,
  supplier: string,
): Component {
  const [, packageName = "", version = ""] = /^npm:(.+)@([^/]+)/.exec(project.imports[name]) ?? [];
  return {
    name: packageName,
    version,
    licence,
    copyright,
    url: `pkg:npm/${packageName}@${version}`,
    supplier,
  };
}

/** What an expression finds in the text within a program. */
function textIn(bytes: Uint8Array, expression: RegExp): string | undefined {
  const decoder = new TextDecoder("latin1");
  const size = 1 << 22;
  for (let at = 0; at < bytes.length; at += size) {
    const found = expression.exec(decoder.decode(bytes.subarray(at, at + size + 256)))?.[1];
    if (found !== undefined) return found;
  }
  return undefined;
}
