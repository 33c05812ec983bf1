import { equal, match, rejects, throws } from "node:assert/strict";
import {
  certificateHint,
  DenortError,
  findDenort,
  withoutAppendedData,
} from "../scripts/denort.ts";
import { sha256 } from "../scripts/sha256.ts";
import { withFolder } from "./support/files.ts";

const target = "x86_64-unknown-linux-gnu";

/** A program as `deno compile` writes it: denort, data, trailer. */
function compiledProgram(denort: string, data: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(denort + data);
  const program = new Uint8Array(text.length + 16);
  program.set(text);
  const trailer = new DataView(program.buffer, text.length);
  trailer.setUint32(0, 0x501e, true);
  trailer.setUint32(4, 0x2a7, true);
  trailer.setBigUint64(8, BigInt(data.length + 16), true);
  return program;
}

/** Calls back with environment variables set or, with `undefined`, unset; put back afterwards. */
async function withEnv(
  variables: Readonly<Record<string, string | undefined>>,
  work: () => Promise<void>,
): Promise<void> {
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  const set = (name: string, value: string | undefined) =>
    value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
  try {
    for (const [name, value] of Object.entries(variables)) set(name, value);
    await work();
  } finally {
    for (const [name, value] of before) set(name, value);
  }
}

/** Settings with which Deno finds no denort of its own, neither kept nor by network. */
function withoutDownload(folder: string): Record<string, string | undefined> {
  return {
    DENORT_BIN: undefined,
    DENORT_BASE_URL: "http://127.0.0.1:9",
    DENO_DIR: `${folder}/deno`,
    HTTPS_PROXY: "http://127.0.0.1:9",
    NO_PROXY: "127.0.0.1",
    npm_config_cache: `${folder}/npm`,
    npm_config_fetch_retries: "0",
  };
}

/** An npm registry with one package, whose `bin/rfc` has the given content. */
async function serveRegistry(
  folder: string,
  content: Uint8Array,
): Promise<Deno.HttpServer<Deno.NetAddr>> {
  const name = "@dgellow/rfc-linux-x64", version = "0.0.6";
  await Deno.mkdir(`${folder}/package/bin`, { recursive: true });
  await Deno.writeFile(`${folder}/package/bin/rfc`, content);
  await Deno.writeTextFile(`${folder}/package/package.json`, JSON.stringify({ name, version }));
  await new Deno.Command("tar", {
    args: ["-czf", `${folder}/package.tgz`, "-C", folder, "package"],
  }).output();
  const tarball = await Deno.readFile(`${folder}/package.tgz`);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-512", tarball)).toBase64();
  const server: Deno.HttpServer<Deno.NetAddr> = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => {
      const path = decodeURIComponent(new URL(request.url).pathname);
      if (path === "/package.tgz") return new Response(tarball);
      if (path !== `/${name}`) return Response.json({ error: "not found" }, { status: 404 });
      const dist = {
        tarball: `http://127.0.0.1:${server.addr.port}/package.tgz`,
        integrity: `sha512-${digest}`,
      };
      return Response.json({
        name,
        "dist-tags": { latest: version },
        versions: { [version]: { name, version, dist } },
      });
    },
  );
  return server;
}

Deno.test("denort is a compiled program without what was appended", () => {
  const denort = withoutAppendedData(compiledProgram("the runtime", "the data"));
  equal(new TextDecoder().decode(denort), "the runtime");
  throws(() => withoutAppendedData(new TextEncoder().encode("x".repeat(100))), DenortError);
  throws(() => withoutAppendedData(new Uint8Array(3)), DenortError);
});

Deno.test("a program of the registry with another denort than the pinned one is refused", async () => {
  await withFolder(async (folder) => {
    const program = compiledProgram("not the runtime that was published", "data");
    await using server = await serveRegistry(folder, program);
    const registry = `http://127.0.0.1:${server.addr.port}/`;
    await withEnv({
      ...withoutDownload(folder),
      npm_config_registry: registry,
      NPM_CONFIG_REGISTRY: registry,
    }, async () => {
      const said: string[] = [];
      const hash = await sha256(new TextEncoder().encode("not the runtime that was published"));
      await rejects(findDenort(target, folder, (line) => said.push(line)), {
        name: "DenortError",
        message: new RegExp(`rfc-linux-x64@0\\.0\\.6: its sha256 is ${hash}, expected 1b136202`),
      });
      // The registry does not have the first package, so the second one was asked for.
      match(said.at(-2) ?? "", /@mcp-stress\/linux-x64@0\.2\.1/);
      match(said.at(-1) ?? "", /@dgellow\/rfc-linux-x64@0\.0\.6/);
    });
  });
});

/** A zip file with one file, compressed or not, as zip tools write it. */
async function zipOf(name: string, content: Uint8Array<ArrayBuffer>, deflate: boolean) {
  const stream = new Blob([content]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const data = deflate ? new Uint8Array(await new Response(stream).arrayBuffer()) : content;
  const path = new TextEncoder().encode(name);
  const local = new Uint8Array(30), central = new Uint8Array(46), end = new Uint8Array(22);
  const [l, c, e] = [local, central, end].map((bytes) => new DataView(bytes.buffer)) as [
    DataView,
    DataView,
    DataView,
  ];
  l.setUint32(0, 0x04034b50, true);
  l.setUint16(26, path.length, true);
  c.setUint32(0, 0x02014b50, true);
  c.setUint16(10, deflate ? 8 : 0, true);
  c.setUint32(20, data.length, true);
  c.setUint16(28, path.length, true);
  e.setUint32(0, 0x06054b50, true);
  e.setUint16(10, 1, true);
  e.setUint32(16, 30 + path.length + data.length, true);
  return new Uint8Array(
    await new Blob([local, path, data, central, path, end] as Uint8Array<ArrayBuffer>[])
      .arrayBuffer(),
  );
}

/** The Deno project's downloads: one zip file and a checksum. */
function serveDownloads(zip: Uint8Array<ArrayBuffer>, checksum: string) {
  const path = `/release/v${Deno.version.deno}/denort-${target}.zip`;
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === path) return new Response(zip);
    if (pathname === `${path}.sha256sum`) return new Response(`${checksum}  denort.zip\n`);
    return new Response(null, { status: 404 });
  });
}

for (const deflate of [true, false]) {
  Deno.test(`the official download comes first, with its checksum (${deflate ? "deflated" : "stored"})`, async () => {
    await withFolder(async (folder) => {
      const program = await Deno.readFile("/bin/true");
      const zip = await zipOf("denort", program, deflate);
      await using server = serveDownloads(zip, await sha256(zip));
      const base = `http://127.0.0.1:${server.addr.port}`;
      await withEnv({ ...withoutDownload(folder), DENORT_BASE_URL: `${base}/` }, async () => {
        const found = await findDenort(target, folder, () => {}, true);
        equal(found.sha256, await sha256(program));
        equal(await sha256(await Deno.readFile(found.path)), found.sha256);
        match(
          found.source,
          /^official download http.*denort-.*zip, its published checksum matches$/,
        );
        await server.shutdown();
        const kept = await findDenort(target, folder, () => {}, true);
        match(kept.source, /^official download .* matches, kept in /);
        equal(kept.sha256, found.sha256);
      });
    });
  });
}

Deno.test("an official download of another checksum ends the build, whatever else there is", async () => {
  await withFolder(async (folder) => {
    const zip = await zipOf("denort", await Deno.readFile("/bin/true"), true);
    await using server = serveDownloads(zip, "0".repeat(64));
    const DENORT_BASE_URL = `http://127.0.0.1:${server.addr.port}`;
    await withEnv({ ...withoutDownload(folder), DENORT_BASE_URL }, async () => {
      await rejects(findDenort(target, folder, () => {}), {
        name: "DenortError",
        message:
          /^Refusing http.*: its sha256 is [0-9a-f]{64}, expected 0{64} as in .*\.sha256sum$/,
      });
    });
  });
});

Deno.test("a zip file without denort is no runtime, and the next source is asked", async () => {
  await withFolder(async (folder) => {
    const zip = await zipOf("deno", await Deno.readFile("/bin/true"), true);
    await using server = serveDownloads(zip, await sha256(zip));
    const DENORT_BASE_URL = `http://127.0.0.1:${server.addr.port}`;
    await withEnv({ ...withoutDownload(folder), DENORT_BASE_URL }, async () => {
      await rejects(findDenort(target, folder, () => {}, true), /has no file "denort"/);
    });
  });
});

Deno.test("a release build takes nothing out of npm packages of others, not even a kept one", async () => {
  await withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/.cache/denort`, { recursive: true });
    const path = `${folder}/.cache/denort/denort-2.6.10-${target}`;
    await Deno.writeTextFile(path, "what the npm way has left");
    await withEnv(withoutDownload(folder), async () => {
      const said: string[] = [];
      await rejects(
        findDenort(target, folder, (line) => said.push(line), true),
        /npm packages of others are not taken, as --official-runtime-only says; fetch "denort-/,
      );
      equal(said.join("\n").includes("npm"), false);
    });
  });
});

Deno.test("a kept denort that has changed is refused", async () => {
  await withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/.cache/denort`, { recursive: true });
    await Deno.writeTextFile(`${folder}/.cache/denort/denort-2.6.10-${target}`, "changed");
    await withEnv(withoutDownload(folder), async () => {
      await rejects(findDenort(target, folder, () => {}), /Refusing ".*": its sha256 is/);
    });
  });
});

Deno.test("without network the message names every source that was tried", async () => {
  await withFolder(async (folder) => {
    const registry = "http://127.0.0.1:9/";
    await withEnv({
      ...withoutDownload(folder),
      npm_config_registry: registry,
      NPM_CONFIG_REGISTRY: registry,
    }, async () => {
      await rejects(findDenort(target, folder, () => {}), (error: Error) => {
        for (
          const part of [
            /official download: /,
            /Deno: /,
            /mcp-stress.*: \S/,
            /rfc-linux.*: \S/,
            /DENORT_BIN/,
          ]
        ) {
          match(error.message, part);
        }
        return true;
      });
      await rejects(
        findDenort("aarch64-unknown-linux-gnu", folder, () => {}),
        /The npm registry has none for this target.*set DENORT_BIN/,
      );
    });
  });
});

Deno.test("what DENORT_BIN names must be a denort of the target", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/denort`;
    await withEnv({ DENORT_BIN: path }, async () => {
      await rejects(findDenort(target, folder), /Cannot read DENORT_BIN/);
      await Deno.writeTextFile(path, "#!/bin/sh\n");
      await rejects(findDenort(target, folder), /is not a denort: expected a Linux program/);
      const program = await Deno.readFile("/bin/true");
      const machine = program[18] === 62 ? "x86_64" : "aarch64";
      const other = program[18] === 62 ? "aarch64" : "x86_64";
      await Deno.writeFile(path, program);
      await rejects(
        findDenort(`${other}-unknown-linux-gnu`, folder),
        new RegExp(`is for ${machine}, expected ${other}`),
      );
      await Deno.writeFile(path, new Uint8Array([...program, 1, 2, 3]));
      await rejects(findDenort(`${machine}-unknown-linux-gnu`, folder), /is not a bare denort/);
    });
  });
});

Deno.test("other targets than Linux are refused", async () => {
  await rejects(findDenort("x86_64-pc-windows-msvc", "/"), /Cannot build for target/);
});

Deno.test("a refused certificate leads to the setting that helps", async () => {
  await withEnv({ DENO_TLS_CA_STORE: undefined }, () => {
    match(certificateHint("invalid peer certificate: UnknownIssuer"), /DENO_TLS_CA_STORE=system/);
    equal(certificateHint("dns error"), "");
    return Promise.resolve();
  });
});
