/** Network namespaces as a container runtime makes them for pods with `hostUsers: false`. */
import assert from "node:assert/strict";
import { runProgram } from "../../src/linux/process.ts";
import { NamedNamespace, setLinkUp, uniqueName } from "./topology.ts";

/** Users 0 to 65535 of the pod are these of the host, whom nobody else uses. */
const FIRST_USER = 1_000_000_000;

/** Makes a network namespace inside of a user namespace of its own, whose processes have ended. */
export function createOwnedNamespace(): NamedNamespace {
  const name = uniqueName();
  const { status, stderr } = runProgram({
    path: "/bin/bash",
    args: [
      "-ec",
      `unshare --user --net sleep 60 & pid=$!
      trap 'kill $pid' EXIT
      while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
      for kind in uid gid; do echo "0 ${FIRST_USER} 65536" > /proc/$pid/\${kind}_map; done
      ip netns attach ${name} $pid`,
    ],
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  }, 10_000);
  assert.equal(status, 0, `Cannot make a network namespace in a user namespace: ${stderr}`);
  const namespace = new NamedNamespace(name);
  namespace.run(() => setLinkUp("lo"));
  return namespace;
}
