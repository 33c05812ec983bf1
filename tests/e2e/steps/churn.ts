/** Pods that start one after the other while the agents of their node are being replaced. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { pause } from "../support/machine.ts";
import { demo, type Stage } from "../support/stage.ts";

/** So many start as fast as they can be created, the others slowly: a node takes 110 pods. */
const fast = 20;
const most = 75;
const slowly = 600;

/**
 * Creates pods, two of three meshed, from before the replacement until the new agents are ready, and
 * fails when one of them fails once, or is not what it should be.
 *
 * @param replace Begins the replacement.
 * @returns What to tell of it.
 */
export async function churn(
  stage: Stage,
  prefix: string,
  replace: () => Promise<void>,
): Promise<string> {
  const { cluster } = stage;
  const names: string[] = [];
  const isMeshed = (index: number) => index % 3 !== 2;
  const createOne = async () => {
    const index = names.length;
    const name = `${prefix}-${index}`;
    names.push(name);
    if (!isMeshed(index)) await stage.createPlain(name);
    else await stage.create({ name, form: index % 2 === 0 ? "3" : "2.9" }, { light: true });
  };
  // What kubelet said about earlier pods is not about these.
  await cluster.kubectl("-n", demo, "delete", "events", "--all");
  await createOne();
  await replace();
  let rolled = false;
  const rolling = stage.rolledOut().finally(() => rolled = true);
  while (!rolled || names.length < fast) {
    if (names.length < most) await createOne();
    if (names.length >= fast) await pause(slowly);
  }
  await rolling;
  await stage.assertNoneHasDied();
  for (const [index, name] of names.entries()) {
    equal(await stage.isCaptured(name), isMeshed(index), name);
  }
  deepEqual(await stage.failedSandboxes(), []);
  ok(names.length >= fast);
  await cluster.kubectl("-n", demo, "delete", "pod", ...names);
  return `${names.length} pods started meanwhile, 0 failed, 0 unmeshed`;
}
