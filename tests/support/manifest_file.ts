/** A pod's manifest in a file, as commands read it. */

/** The pod demo/web-0 with a sidecar; dispose of it to remove the file. */
export class ManifestFile implements Disposable {
  readonly path = Deno.makeTempFileSync({ prefix: "kuma-test-", suffix: ".json" });

  constructor(annotations: Readonly<Record<string, string>>) {
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "web-0", namespace: "demo", annotations },
      spec: { containers: [{ name: "kuma-sidecar" }, { name: "app" }] },
    };
    Deno.writeTextFileSync(this.path, JSON.stringify(pod));
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path);
  }
}
