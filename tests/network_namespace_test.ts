import assert from "node:assert/strict";
import { LinuxError } from "../src/linux/errno.ts";
import { isCurrentNetworkNamespace, withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { createNamespace, uniqueName } from "./support/topology.ts";
import { listLinks } from "../src/linux/addresses.ts";

const HOME = () => Deno.readLinkSync("/proc/thread-self/ns/net");

Deno.test("work happens inside the namespace and the thread returns home", () => {
  using namespace = createNamespace();
  const home = HOME();
  const inside = withNetworkNamespace(namespace.path, () => {
    assert.equal(isCurrentNetworkNamespace(namespace.path), true);
    return { link: HOME(), links: listLinks() };
  });
  assert.notEqual(inside.link, home);
  assert.deepEqual(inside.links.map(({ name, loopback, up }) => [name, loopback, up]), [
    ["lo", true, true],
  ]);
  assert.equal(HOME(), home);
  assert.equal(isCurrentNetworkNamespace(namespace.path), false);
});

Deno.test("the thread returns home when the work throws, also from nested namespaces", () => {
  using outer = createNamespace();
  using inner = createNamespace();
  const home = HOME();
  assert.throws(
    () => outer.run(() => inner.run(() => assert.fail("inside"))),
    /inside/,
  );
  assert.equal(HOME(), home);
});

Deno.test("a child started synchronously is inside the namespace", () => {
  using namespace = createNamespace();
  const inside = namespace.run(() => {
    const { stdout } = new Deno.Command("readlink", { args: ["/proc/self/ns/net"] }).outputSync();
    return [new TextDecoder().decode(stdout).trim(), HOME()];
  });
  assert.equal(inside[0], inside[1]);
  assert.notEqual(inside[0], HOME());
});

Deno.test("asynchronous work is refused", () => {
  using namespace = createNamespace();
  const home = HOME();
  assert.throws(() => namespace.run(async () => await Promise.resolve()), TypeError);
  assert.equal(HOME(), home);
});

Deno.test("a path that is no network namespace is refused with what it is", async (t) => {
  const folder = Deno.makeTempDirSync();
  const file = `${folder}/file`;
  Deno.writeTextFileSync(file, "");
  Deno.symlinkSync("loop", `${folder}/loop`);
  new Deno.Command("mkfifo", { args: [`${folder}/fifo`] }).outputSync();
  const cases: [path: string, code: string, words: RegExp][] = [
    [`${folder}/missing`, "ENOENT", /Cannot open network namespace ".*missing"/],
    [file, "EINVAL", /plain file/],
    [folder, "EINVAL", /directory/],
    [`${folder}/fifo`, "EINVAL", /special file/],
    [`${folder}/loop`, "ELOOP", /loop/],
    [`${file}/below`, "ENOTDIR", /Not a directory/],
    ["/proc/self/ns/mnt", "EINVAL", /the namespace "mnt:\[\d+\]"/],
    ["/dev/null", "EINVAL", /special file/],
    [`${folder}/${"x".repeat(300)}`, "ENAMETOOLONG", /too long/],
  ];
  const home = HOME();
  let entered = false;
  for (const [path, code, words] of cases) {
    await t.step(path.slice(-40), () => {
      assert.throws(() => withNetworkNamespace(path, () => entered = true), (error) => {
        assert(error instanceof LinuxError);
        assert.equal(error.code, code, error.message);
        assert.match(error.message, words);
        return true;
      });
    });
  }
  assert.equal(entered, false);
  assert.equal(HOME(), home);
  assert.throws(() => withNetworkNamespace("/run/netns/a\0b", () => {}), /NUL/);
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("no file descriptor leaks, whether entering works or fails", () => {
  using namespace = createNamespace();
  const count = () => [...Deno.readDirSync("/proc/self/fd")].length;
  const before = count();
  for (let i = 0; i < 20; i++) {
    namespace.run(() => listLinks());
    assert.throws(() => withNetworkNamespace("/dev/null", () => {}));
    assert.throws(() => withNetworkNamespace("/nowhere", () => {}));
  }
  assert.equal(count(), before);
});

Deno.test("a namespace that exists is not made again, and deleting twice is quiet", () => {
  const name = uniqueName();
  const namespace = createNamespace(name);
  assert.throws(() => createNamespace(name), Deno.errors.AlreadyExists);
  namespace[Symbol.dispose]();
  namespace[Symbol.dispose]();
  assert.throws(() => Deno.statSync(namespace.path), Deno.errors.NotFound);
});

Deno.test("a thread that cannot return home is told that its process must end", () => {
  using namespace = createNamespace();
  // In a process of its own: the thread really is lost afterwards.
  const source = (path: string) => JSON.stringify(import.meta.resolve(path));
  const script = `
    import { libc } from ${source("../src/linux/libc.ts")};
    import * as namespaces from ${source("../src/linux/network_namespace.ts")};
    const home = Deno.readLinkSync("/proc/thread-self/ns/net");
    const closeHome = () => {
      for (const { name } of Deno.readDirSync("/proc/self/fd")) {
        try {
          if (Deno.readLinkSync("/proc/self/fd/" + name) === home) libc().close(Number(name));
        } catch { /* the folder's own descriptor is gone */ }
      }
    };
    for (const work of [closeHome, () => console.log("entered again")]) {
      try {
        namespaces.withNetworkNamespace(${JSON.stringify(namespace.path)}, work);
      } catch (error) {
        console.log(error instanceof namespaces.LostNamespaceError, error.message);
      }
    }`;
  const { stdout } = new Deno.Command(Deno.execPath(), { args: ["eval", script] }).outputSync();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  assert.equal(lines.length, 2, lines.join("\n"));
  assert.match(lines[0]!, /^true Cannot return from .*EBADF.*The process must end now$/);
  assert.match(lines[1]!, /^true Cannot enter .* from a thread that is in a wrong one/);
});
