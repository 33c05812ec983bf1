/** A pod's network namespace for tests in which nobody else takes part. */
import {
  addLinkAddress,
  addRoute,
  createNamespace,
  createVethPair,
  type NamedNamespace,
  setLinkUp,
} from "./topology.ts";

/** The pod's address. */
export const LONE_POD_ADDRESS = "10.90.0.3";

/** Makes a namespace with an address and a default route over an interface that leads to nobody. */
export function createLonePod(): NamedNamespace {
  const netns = createNamespace();
  netns.run(() => {
    createVethPair("eth0", "end");
    for (const name of ["lo", "eth0", "end"]) setLinkUp(name);
    addLinkAddress("eth0", `${LONE_POD_ADDRESS}/24`);
    addRoute({ to: "default4", dev: "eth0" });
  });
  return netns;
}
