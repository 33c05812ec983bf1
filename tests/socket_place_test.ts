/** The place of a socket: what is not wholly there is not served. */
import { deepEqual, equal, throws } from "node:assert/strict";
import { SocketPlace } from "../installer/agent/socket_place.ts";

Deno.test("a socket that could be made only in part is not taken for one that is served", () => {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-place-" });
  Deno.chmodSync(folder, 0o700);
  const closed: string[] = [];
  let open: (path: string) => Deno.UnixListener | string = () => {
    throw new Error("No descriptors");
  };
  const place = new SocketPlace<Deno.UnixListener | string>(`${folder}/x.sock`, {
    open: (path) => open(path),
    close: (listener, _, isOurs) => {
      closed.push(`${typeof listener} ${isOurs}`);
      if (typeof listener !== "string") listener.close();
    },
  });
  try {
    throws(() => place.ensureServing(), /No descriptors/);
    equal(place.isServing, false);
    // Somebody took the file away before its mode was set.
    open = () => "listener without a file";
    throws(() => place.ensureServing(), Deno.errors.NotFound);
    equal(place.isServing, false);
    open = (path) => Deno.listen({ transport: "unix", path });
    equal(place.ensureServing(), true);
    equal(place.ensureServing(), false);
    equal(place.isServing, true);
    place.close();
    equal(place.isServing, false);
    deepEqual(closed, ["string false", "object true"]);
    deepEqual([...Deno.readDirSync(folder)], []);
  } finally {
    place.close();
    Deno.removeSync(folder, { recursive: true });
  }
});
