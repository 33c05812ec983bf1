import { equal, match, rejects, throws } from "node:assert/strict";
import {
  certificateHint,
  DenortError,
  findDenort,
  sha256,
  withoutAppendedData,
} from "../scripts/denort.ts";

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

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Settings with which Deno finds no denort of its own, neither kept nor by network. */
function withoutDownload(folder: string): Record<string, string | undefined> {
  return {
    DENORT_BIN: undefined,
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
        message: new RegExp(`rfc-linux-x64@0\\.0\\.6: its sha256 is ${hash}, wanted 1b136202`),
      });
      // The registry does not have the first package, so the second one was asked for.
      match(said.at(-2) ?? "", /@mcp-stress\/linux-x64@0\.2\.1/);
      match(said.at(-1) ?? "", /@dgellow\/rfc-linux-x64@0\.0\.6/);
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
        for (const part of [/Deno: /, /mcp-stress.*: \S/, /rfc-linux.*: \S/, /DENORT_BIN/]) {
          match(error.message, part);
        }
        return true;
      });
      await rejects(
        findDenort("aarch64-unknown-linux-gnu", folder, () => {}),
        /the npm registry has none for this target.*set DENORT_BIN/,
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
      await rejects(findDenort(target, folder), /is no denort: wanted a Linux program/);
      const program = await Deno.readFile("/bin/true");
      const machine = program[18] === 62 ? "x86_64" : "aarch64";
      const other = program[18] === 62 ? "aarch64" : "x86_64";
      await Deno.writeFile(path, program);
      await rejects(
        findDenort(`${other}-unknown-linux-gnu`, folder),
        new RegExp(`is for ${machine}, wanted ${other}`),
      );
      await Deno.writeFile(path, new Uint8Array([...program, 1, 2, 3]));
      await rejects(findDenort(`${machine}-unknown-linux-gnu`, folder), /is no bare denort/);
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
