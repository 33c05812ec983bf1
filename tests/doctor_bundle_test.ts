/** The support bundle of `install-cni doctor`: what it has, what it must not have, and its bounds. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { withoutSecretMembers, withoutSecrets } from "../installer/doctor/redact.ts";
import { pathsOf } from "../installer/settings/paths.ts";
import { DoctorBed, nodeName } from "./support/doctor_bed.ts";
import "./support/load_libc.ts";
import { injectedPod } from "./support/pods.ts";

const mainModule = new URL("../installer/main.ts", import.meta.url).pathname;

/** Texts of a gzipped tar archive, whole. */
async function unpacked(path: string): Promise<string> {
  const stream = (await Deno.open(path)).readable.pipeThrough(new DecompressionStream("gzip"));
  return await new Response(stream).text();
}

/** Names of its entries, as tar sees them. */
async function listed(path: string): Promise<string[]> {
  const { stdout, success } = await new Deno.Command("tar", { args: ["-tzf", path] }).output();
  ok(success);
  return new TextDecoder().decode(stdout).trimEnd().split("\n");
}

/** A text with a mark that is looked for; each place has its own. */
const planted = (place: string) => `planted-${place}-x9`;

const jwt = (place: string) => `eyJhbGciOiJSUzI1NiJ9.${btoa(planted(place))}Ab1.c2ln${place}Ab`;

/** Conflists of other plugins, with what people and programs write into them. */
const lists: Readonly<Record<string, unknown>> = {
  "10-calico.conflist": {
    cniVersion: "1.0.0",
    name: "net",
    plugins: [{
      type: "calico",
      etcd_password: planted("etcd"),
      policy: {
        k8s_auth: { user: "x", value: planted("auth") },
        k8s_auth_token: planted("policy"),
      },
      endpoint: `https://user:${planted("url")}@etcd:2379`,
      sas: `https://store/blob?sv=1&sig=${planted("sas")}&x=1`,
      note: `-----BEGIN RSA PRIVATE KEY-----\n${planted("pem")}\n-----END RSA PRIVATE KEY-----`,
      pgp: `-----BEGIN PGP PRIVATE KEY BLOCK-----\n${planted("pgp")}`,
      header: `Authorization: Bearer ${planted("bearer")}`,
      opaque: "Y2FsaWNvLXRva2VuLXBsYW50ZWQtYnktYS10ZXN0",
      inner: JSON.stringify({ deep: [{ clientSecret: planted("nested") }] }),
      env: [`DB_PASSWORD=${planted("env")}`, { name: "API_TOKEN", value: planted("pair") }],
      args: ["--token", planted("flag"), `--password=${planted("option")}`],
      passphrase: planted("passphrase"),
      pwd: planted("pwd"),
      psk: planted("psk"),
      connectionString: `Endpoint=x;AccountKey=${planted("connection")}`,
      store: `Endpoint=x;SharedAccessKey=${planted("shared")};y`,
      [`key ${jwt("name")}`]: 1,
    }],
  },
  "20-multus.conf": {
    cniVersion: "1.0.0",
    name: "m",
    type: "multus",
    kubeconfig: `apiVersion: v1\nusers:\n- user:\n    token: ${planted("yaml")}\n`,
    delegates: [{ type: "x", ipam: { etcd: { password: planted("whereabouts") } } }],
  },
};

Deno.test("a bundle has no secret, wherever one is planted", async () => {
  const oldToken = jwt("old");
  const event = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: "e", namespace: "shop" },
    involvedObject: { kind: "Pod", name: "web-0", namespace: "shop" },
    reason: "FailedCreatePodSandBox",
    message: `plugin failed: token=${planted("event")} ${oldToken} https://a:${planted("at")}@b/`,
  };
  const pod = injectedPod({
    namespace: "shop",
    name: "web-0",
    nodeName,
    labels: { owner: planted("label") },
    annotations: {
      "kuma.io/sidecar-env-vars": `TOKEN=${planted("sidecar")}`,
      "vault.example.com/secret": planted("annotation"),
      "kubectl.kubernetes.io/last-applied-configuration": planted("applied"),
    },
  });
  Object.assign(pod.spec.containers[0]!, { env: [{ name: "A", value: planted("container") }] });
  const [first, ...others] = Object.entries(lists).map(([name, list]) =>
    [name, JSON.stringify(list)] as const
  );
  await using bed = await DoctorBed.make({
    list: first!,
    kubernetes: { k8s_service_account_token: "__SERVICEACCOUNT_TOKEN__" },
    files: {
      ...Object.fromEntries(others.map(([name, text]) => [`/etc/cni/net.d/${name}`, text])),
      "/etc/cni/net.d/99-broken.conflist": `{"password": "${planted("broken")}`,
      // What is no network configuration is nobody's business.
      "/etc/cni/net.d/calico-kubeconfig": `token: ${planted("kubeconfig")}`,
      "/etc/cni/net.d/multus.d/multus.kubeconfig": `token: ${planted("multus")}`,
      "/etc/containerd/config.toml":
        `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.configs.x.auth]\n` +
        `password = "${planted("registry")}"\n`,
      "/etc/containerd/certs.d/hosts.toml": planted("hosts"),
    },
    objects: [pod, event],
  });
  bed.cache("shop", "web-0", true);
  const bundle = `${bed.host.root}/bundle.tar.gz`;
  const { stderr } = await bed.host.run(
    ["doctor", "shop/web-0", "--bundle", bundle],
    { ...bed.environment, HTTPS_PROXY: `http://u:${planted("proxy")}@127.0.0.1:1` },
  );
  match(stderr, /^Bundle: /m);
  equal((Deno.statSync(bundle).mode ?? 0) & 0o777, 0o600);
  const text = await unpacked(bundle);
  for (const name of ["doctor.txt", "net.d/10-calico.conflist", "pod.json", "settings.json"]) {
    ok(text.includes(`kuma-cni-doctor/${name}`), name);
  }
  // What helps is there.
  for (
    const word of ['"type": "calico"', "kuma.io/sidecar-injected", '"etcd_password": "(removed)"']
  ) ok(text.includes(word), word);
  const token = bed.api.token;
  const secrets = [token, btoa(token), btoa(` ${token}`).slice(4, -4), oldToken];
  deepEqual(secrets.filter((secret) => text.includes(secret)), []);
  deepEqual(text.match(/planted-\w+-x9/g) ?? [], []);
  ok(!text.includes(btoa(planted("old")).slice(0, 16)) && !text.includes("Y2FsaWNvLXRva2Vu"));
  // Through a pipe, for kubectl exec.
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", mainModule, "doctor", "--bundle", "-"],
    env: bed.environment,
    stderr: "null",
  }).output();
  ok(stdout.length > 1000);
  Deno.writeFileSync(`${bundle}.piped`, stdout);
  match(await unpacked(`${bundle}.piped`), /kuma-cni-doctor\/doctor\.json/);
  // Nothing that is there is written over, nor through a link.
  const again = await bed.host.run(["doctor", "--bundle", bundle], bed.environment);
  match(again.stderr, /Cannot write the bundle/);
});

Deno.test("a bundle has no piece of a token out of a file that cannot be read", async () => {
  await using bed = await DoctorBed.make();
  const { kubeconfig } = pathsOf(bed.settings);
  // The parser shows the line, and only what stands round the mistake.
  const pieces = `${planted("cut")}.${btoa(planted("cut")).repeat(3)}Ab1`;
  for (
    const text of [
      `users:\n- user:\n    token: "${pieces}" : [\n`,
      `users:\n- user: {token: ${jwt("flow")}\n`,
      `{"users": [{"user": {"token": "${jwt("json")}" "a"`,
      `token: ${jwt("plain")}\n\t- bad`,
    ]
  ) {
    Deno.writeTextFileSync(kubeconfig, text);
    const { findings } = await bed.diagnose();
    const told = withoutSecrets(JSON.stringify(findings), []);
    ok(!/planted-\w+-x9/.test(told) && !told.includes("eyJ"), told);
    ok(!told.includes(btoa(planted("cut")).slice(0, 16)), told);
  }
});

Deno.test("a bundle has plain names and is bounded, whatever others have named and written", async () => {
  await using bed = await DoctorBed.make();
  const many = JSON.stringify({ name: "n", plugins: [{ type: "x", a: "b c ".repeat(200_000) }] });
  for (const name of ["..%2f..\n\u202e.conflist", "%.conflist", "$.conflist", "-rf.conflist"]) {
    bed.write(`/etc/cni/net.d/${name}`, many);
  }
  bed.write(`/etc/cni/net.d/${"n".repeat(200)}.conflist`, "{}");
  const bundle = `${bed.host.root}/bundle.tar.gz`;
  await bed.host.run(["doctor", "--bundle", bundle], bed.environment);
  const names = await listed(bundle);
  equal(names.filter((name) => name.includes("net.d/")).length, 6, names.join("\n"));
  for (const name of names) {
    match(name, /^kuma-cni-doctor\/(net\.d\/)?[\w.-]{1,80}$/);
    ok(!name.split("/").includes(".."), name);
  }
  ok((await unpacked(bundle)).length < 8 << 20);
});

Deno.test("texts lose what looks like a secret, and nothing else", () => {
  const same = [
    "http://proxy",
    'Cannot read "/run/secrets/token": it is a FIFO, expected a regular file',
    "invalid peer certificate: UnknownIssuer",
    "helm upgrade kuma-cni deploy/helm/kuma-cni -n kube-system --reuse-values --set cni.netDir=/x",
    "sandbox 0123456789abcdef0123456789abcdef of kuma-control-plane.kuma-system.svc.cluster.local",
  ];
  for (const text of same) equal(withoutSecrets(text, []), text);
  equal(withoutSecrets("token abcdefgh1 is", ["abcdefgh1"]), "token (removed) is");
  equal(withoutSecrets("eyJhbGciOi.eyJzdWIi.c2ln", []), "(removed)");
  equal(withoutSecrets("http://a:b@proxy:1", []), "http://(removed)@proxy:1");
  equal(withoutSecrets('"password": "a" and x', []), '"password": "(removed)" and x');
  deepEqual(withoutSecretMembers({ a: { apiKey: 1, name: "x", list: [{ token: "t" }] } }, []), {
    a: { apiKey: "(removed)", name: "x", list: [{ token: "(removed)" }] },
  });
  let deep: unknown = "secret-value";
  for (let i = 0; i < 100; i++) deep = [deep];
  ok(!JSON.stringify(withoutSecretMembers(deep, [])).includes("secret-value"));
});

Deno.test("taking secrets out takes time in proportion to the text, whatever it is", () => {
  const timed = (text: string) => {
    const began = performance.now();
    withoutSecrets(text, ["some-known-token"]);
    return performance.now() - began;
  };
  const size = 1 << 18;
  const hard = [
    "a",
    "eyJ-",
    "a=",
    "token:",
    '"',
    " ",
    "Bearer ",
    "://",
    "-----BEGIN PRIVATE KEY-----",
  ];
  const plain = timed("word ".repeat(size / 5));
  for (const piece of hard) {
    const time = timed(piece.repeat(size / piece.length));
    ok(time < 1000 + 20 * plain, `${JSON.stringify(piece)}: ${time} ms against ${plain}`);
  }
});
