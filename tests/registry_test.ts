/** Images are pushed to a real registry, also when it is busy, picky, or asks who is there. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { digestOf, type Image, makeImage, makeIndex } from "../scripts/package/oci.ts";
import { push } from "../scripts/package/push.ts";
import { parseReference } from "../scripts/package/reference.ts";
import { type Credentials, findCredentials } from "../scripts/package/registry_credentials.ts";
import { makeAuthority } from "./support/certificates.ts";
import { account, Registry, type RegistryLogin } from "./support/registry.ts";

const repository = "mesh/kuma-cni";
const own: Credentials = { kind: "password", ...account };

/** Images of two architectures whose layers do not compress. */
function twoImages(): Image[] {
  return ["amd64", "arm64"].map((architecture) => {
    const data = new Uint8Array(200_000);
    for (let at = 0; at < data.length; at += 50_000) {
      crypto.getRandomValues(data.subarray(at, at + 50_000));
    }
    return makeImage({
      architecture,
      files: [{ path: "file", kind: "file", data }],
      entrypoint: ["/file"],
      environment: [],
      workingFolder: "/",
    });
  });
}

/** What a client that is not ours gets: digest of the tag, and of all that belongs to it. */
async function pulled(address: string, tag: string, credentials: Credentials | undefined) {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    const login = credentials?.kind === "password"
      ? [`--src-creds=${credentials.user}:${credentials.password}`]
      : [];
    const { success, stderr } = await new Deno.Command("skopeo", {
      args: ["copy", "--insecure-policy", "--all", "--src-tls-verify=false", ...login]
        .concat(`docker://${address}/${repository}:${tag}`, `dir:${folder}`),
    }).output();
    ok(success, new TextDecoder().decode(stderr));
    const files: string[] = [];
    for (const { name } of Deno.readDirSync(folder)) {
      files.push(digestOf(await Deno.readFile(`${folder}/${name}`)));
    }
    return files;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const refresh: Credentials = { kind: "refresh", token: account.refreshToken };

for (
  const { name, login, credentials } of [
    { name: "nobody asks who it is", login: "none", credentials: undefined },
    { name: "a password is asked for", login: "password", credentials: own },
    { name: "a token is asked for, given for a password", login: "token", credentials: own },
    { name: "a token is asked for, given for another one", login: "token", credentials: refresh },
  ] satisfies { name: string; login: RegistryLogin; credentials: Credentials | undefined }[]
) {
  Deno.test(`an image for two architectures is pushed where ${name}`, async () => {
    const authority = await makeAuthority();
    await using registry = await Registry.start({ login, authority });
    const images = twoImages();
    const index = makeIndex(images);
    const target = { registry: registry.address, repository, images, index, pause: 10 };
    const said: string[] = [];
    const options = {
      ...target,
      ...(credentials === undefined ? {} : { credentials }),
      say: (line: string) => said.push(line),
    };
    // One of the ways that proxies need.
    const digest = await push({ ...options, tag: "1", chunkSize: 64 * 1024 });
    equal(digest, index.digest);
    equal(said.filter((line) => / bytes sent$/.test(line)).length, 4);
    const got = await pulled(registry.address, "1", credentials && own);
    const all = images.flatMap(({ manifest, config, layers }) => [manifest, config, ...layers]);
    deepEqual(
      [...all, index].map(({ digest }) => digest).filter((each) => !got.includes(each)),
      [],
    );

    // What is there is not sent again.
    said.length = 0;
    await push({ ...options, tag: "2" });
    deepEqual(
      said.map((line) => line.replace(/^sha256:\w+: /, "")),
      Array(4).fill("is there already"),
    );
    equal(registry.tokensGiven > 0, login === "token");
    if (login === "none") return;
    const wrong: Credentials = { kind: "password", user: "mesh", password: "wrong" };
    await rejects(push({ ...options, tag: "3", credentials: wrong }), (error: Error) => {
      match(error.message, /(gives no token for repository|it answered 401)/);
      ok(!error.message.includes("wrong"), error.message);
      return true;
    });
    await rejects(push({ ...target, tag: "3" }), /log in by "docker login 127\.0\.0\.1:\d+"/);
  });
}

/** A proxy before a registry that does something else with some requests. */
function proxy(
  address: string,
  disturb: (request: Request, body: Uint8Array) => Response | undefined,
): { address: string; requests: string[] } & AsyncDisposable {
  const requests: string[] = [];
  const server = Deno.serve(
    {
      hostname: "127.0.0.1",
      port: 0,
      onListen: () => {},
      onError: () => new Response("", { status: 500 }),
    },
    async (request) => {
      const { pathname, search } = new URL(request.url);
      requests.push(`${request.method} ${pathname}`);
      const body = new Uint8Array(await request.arrayBuffer());
      const other = disturb(request, body);
      if (other !== undefined) return other;
      return await fetch(`http://${address}${pathname}${search}`, {
        method: request.method,
        headers: request.headers,
        ...(body.length === 0 ? {} : { body }),
      });
    },
  );
  return {
    address: `127.0.0.1:${(server.addr as Deno.NetAddr).port}`,
    requests,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const troubles: readonly {
  readonly name: string;
  readonly chunkSize?: number;
  /** Whether this request is disturbed; each kind of request once. */
  readonly meets: (method: string, path: string) => boolean;
  readonly answer: () => Response;
}[] = [
  {
    name: "every kind of request is refused once, as too many",
    meets: () => true,
    answer: () => new Response("", { status: 429, headers: { "retry-after": "0" } }),
  },
  {
    name: "every kind of request fails once inside of the registry",
    chunkSize: 50_000,
    meets: () => true,
    answer: () => new Response("", { status: 503 }),
  },
  {
    name: "an upload is forgotten by the registry while its parts are sent",
    chunkSize: 50_000,
    meets: (method) => method === "PATCH",
    answer: () => Response.json({ errors: [{ code: "BLOB_UPLOAD_UNKNOWN" }] }, { status: 404 }),
  },
];

for (const { name, chunkSize, meets, answer } of troubles) {
  Deno.test(`a push succeeds though ${name}`, async () => {
    await using registry = await Registry.start();
    const met = new Set<string>();
    await using between = proxy(registry.address, (request) => {
      const { pathname } = new URL(request.url);
      const kind = `${request.method} ${pathname.replace(/[^/]*$/, "")}`.replace(/uploads\/.*/, "");
      if (met.has(kind) || !meets(request.method, pathname)) return undefined;
      met.add(kind);
      return answer();
    });
    const [image] = twoImages();
    const digest = await push({
      registry: between.address,
      repository,
      tag: "1",
      images: [image!],
      pause: 10,
      ...(chunkSize === undefined ? {} : { chunkSize }),
    });
    equal(digest, image!.manifest.digest);
    ok(met.size > 0);
    const got = await pulled(registry.address, "1", undefined);
    ok(got.includes(image!.layers[0]!.digest));
  });
}

Deno.test("a blob that has arrived though its answer was lost is not sent again", async () => {
  await using registry = await Registry.start();
  const [image] = twoImages();
  let lost = 0;
  await using between = proxy(registry.address, (request, body) => {
    if (request.method !== "PUT" || !request.url.includes("digest=") || lost++ > 0) {
      return undefined;
    }
    // Let it arrive, and answer as a gateway that has lost the connection.
    const url = new URL(request.url);
    fetch(`http://${registry.address}${url.pathname}${url.search}`, {
      method: "PUT",
      body: body as Uint8Array<ArrayBuffer>,
    }).then((response) => response.body?.cancel());
    return new Response("", { status: 502 });
  });
  await push({ registry: between.address, repository, tag: "1", images: [image!], pause: 300 });
  const uploads = between.requests.filter((line) => line.startsWith("POST"));
  equal(uploads.length, 2, between.requests.join("\n"));
});

Deno.test("a registry that changes what it is given is found out, one that refuses is quoted", async () => {
  await using registry = await Registry.start();
  const [image] = twoImages();
  const options = { repository, tag: "1", images: [image!], pause: 1 };
  await using changing = proxy(
    registry.address,
    (request) =>
      request.method === "GET" && request.url.endsWith("/manifests/1")
        ? Response.json({ schemaVersion: 2 })
        : undefined,
  );
  await rejects(
    push({ ...options, registry: changing.address }),
    /Tag "1" names sha256:\w+ at the/,
  );
  await using refusing = proxy(
    registry.address,
    (request) =>
      request.method === "POST"
        ? Response.json({ errors: [{ code: "DENIED", message: "quota" }] }, { status: 403 })
        : undefined,
  );
  const other = twoImages()[0]!;
  await rejects(
    push({ ...options, images: [other], registry: refusing.address }),
    /^RegistryError: Cannot start an upload at registry "127.0.0.1:\d+": it answered 403 \(DENIED: quota\)$/,
  );
  await using small = proxy(
    registry.address,
    (request, body) =>
      request.method === "PUT" && body.length > 100_000
        ? new Response("", { status: 413 })
        : undefined,
  );
  await rejects(push({ ...options, images: [other], registry: small.address }), /--chunk-size$/);
  await push({ ...options, images: [other], registry: small.address, chunkSize: 90_000 });
});

Deno.test("a registry whose certificate is not trusted is refused at once, with the fix", async () => {
  const authority = await makeAuthority();
  await using registry = await Registry.start({ authority, tls: true });
  const [image] = twoImages();
  const started = performance.now();
  await rejects(
    push({
      registry: registry.address,
      plain: false,
      repository,
      tag: "1",
      images: [image!],
      pause: 60_000,
    }),
    /^RegistryError: Cannot ask for blob sha256:\w+ at registry ".*UnknownIssuer.*\nA certificate was refused/s,
  );
  ok(performance.now() - started < 30_000);
});

Deno.test("credentials are found as docker login and its helpers leave them", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  const path = `${folder}/config.json`;
  const find = (config: unknown, registry = "registry.example:5000") => {
    Deno.writeTextFileSync(path, typeof config === "string" ? config : JSON.stringify(config));
    return findCredentials(registry, path);
  };
  const helpers = Deno.env.get("PATH") ?? "";
  try {
    Deno.env.set("PATH", `${folder}:${helpers}`);
    Deno.writeTextFileSync(
      `${folder}/docker-credential-test`,
      `#!/bin/sh\nread -r server\ncase $server in\n` +
        `  *unknown*) echo "credentials not found in native keychain"; exit 1;;\n` +
        `  *token*) echo '{"Username":"<token>","Secret":"refresh"}';;\n` +
        `  *) echo '{"Username":"mesh","Secret":"s"}';;\nesac\n`,
      { mode: 0o755 },
    );
    const password = (user: string, password: string) => ({ kind: "password", user, password });
    const auth = btoa("mesh:a:b");
    equal(await findCredentials("registry.example", `${folder}/missing.json`), undefined);
    equal(await find({ auths: { "registry.example": { auth } } }), undefined);
    deepEqual(
      await find({ auths: { "registry.example:5000": { auth } } }),
      password("mesh", "a:b"),
    );
    deepEqual(
      await find({
        auths: { "https://registry.example:5000/v2/": { username: "u", password: "p" } },
      }),
      password("u", "p"),
    );
    deepEqual(
      await find({ auths: { "https://index.docker.io/v1/": { auth } } }, "docker.io"),
      password("mesh", "a:b"),
    );
    deepEqual(await find({ auths: { "registry.example:5000": { identitytoken: "t" } } }), {
      kind: "refresh",
      token: "t",
    });
    deepEqual(await find({ credsStore: "test" }), password("mesh", "s"));
    deepEqual(
      await find({ credHelpers: { "token.example": "test" } }, "token.example"),
      { kind: "refresh", token: "refresh" },
    );
    equal(await find({ credsStore: "test" }, "unknown.example"), undefined);
    await rejects(
      find({ credsStore: "missing" }),
      /^CredentialsError: Cannot ask "docker-credential-missing"/,
    );
    await rejects(find('{"auths": {"secret'), (error: Error) => {
      equal(error.message, `Cannot read credentials from "${path}": it is not a JSON object`);
      return true;
    });
    await rejects(
      find({ auths: { "registry.example:5000": { auth: "c2VjcmV0" } } }),
      /"auth" is not USER:PASSWORD in base64; log in anew$/,
    );
  } finally {
    Deno.env.set("PATH", helpers);
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("names of images are read, and others are refused", () => {
  deepEqual(parseReference("registry.example:5000/mesh/kuma-cni:0.1.0"), {
    registry: "registry.example:5000",
    repository: "mesh/kuma-cni",
    tag: "0.1.0",
  });
  equal(parseReference("[::1]:5000/a:b").registry, "[::1]:5000");
  equal(parseReference("localhost/a:b").registry, "localhost");
  for (
    const [text, why] of [
      ["kuma-cni:1", /does not begin with the host/],
      ["mesh/kuma-cni:1", /does not begin with the host/],
      ["registry.example/kuma-cni", /has no tag/],
      ["registry.example:5000/kuma-cni", /has no tag/],
      ["registry.example/Kuma:1", /has the repository "Kuma"/],
      ["registry.example/../x:1", /has the repository/],
      ["registry.example/a:-1", /has the tag/],
      ["registry.example/a@sha256:00", /has a digest/],
      ["user@registry.example/a:1", /has a digest/],
      ["re gistry.example/a:1", /does not begin with the host/],
    ] as const
  ) {
    throws(() => parseReference(text), why, text);
  }
});
