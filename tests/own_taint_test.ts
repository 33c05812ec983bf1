/** The node agent takes the taint from its own node, when it may and no controller does. */
import { deepEqual, equal, match } from "node:assert/strict";
import { OwnTaint } from "../installer/controller/own_taint.ts";
import {
  cniPod,
  ControllerBed,
  daemonSet,
  node,
  pause,
  referenceTaint,
  until,
} from "./support/controller_bed.ts";

/** An agent that looks at its host every few milliseconds. */
class Agent implements AsyncDisposable {
  ready = true;
  readonly log: string[] = [];
  readonly service: OwnTaint;
  readonly #client;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(bed: ControllerBed, waitMilliseconds: number) {
    this.#client = bed.client();
    this.service = new OwnTaint({
      taint: referenceTaint,
      client: () => this.#client,
      nodeName: () => Promise.resolve("n1"),
      waitMilliseconds,
      firstRetryMilliseconds: 50,
    });
    const tell = (message: string, fields: unknown) => {
      this.log.push(`${message} ${JSON.stringify(fields)}`);
    };
    this.service.start({
      log: { info: tell, warn: tell } as never,
      state: () => ({ ready: this.ready, reason: "" }),
    });
    this.#timer = setInterval(() => this.service.tick(), 5);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.service.stop();
    this.#client.close();
  }
}

const objects = [daemonSet(), node("n1", { tainted: true }), node("n2", { tainted: true })];

Deno.test("without a controller an agent that is ready takes the taint from its own node", async () => {
  await using bed = await ControllerBed.start({ objects });
  await using agent = new Agent(bed, 100);
  agent.ready = false;
  await pause(300);
  deepEqual(bed.server.requests, []);
  agent.ready = true;
  await until(() => !bed.isTainted("n1"), "n1 is free");
  equal(bed.isTainted("n2"), true);
  await until(() => agent.log.length === 1, "it is said");
  match(agent.log[0]!, /Taint is taken from this node/);
  await pause(300);
  equal(bed.server.requests.length, 2, "a look and a change, and no more");
});

Deno.test("next to a controller an agent changes nothing", async () => {
  await using bed = await ControllerBed.start({ objects });
  await bed.leader();
  await using agent = new Agent(bed, 500);
  bed.server.store.put(cniPod("n1", "ready"));
  await until(() => !bed.isTainted("n1"), "n1 is free");
  await until(
    () =>
      bed.server.requests.some(({ verb, target }) =>
        verb === "get" && target === "/api/v1/nodes/n1"
      ),
    "the agent has looked",
  );
  await pause(100);
  deepEqual([bed.nodeWrites.length, agent.log], [1, []]);
});

Deno.test("an agent that lacks the right says so, and goes on asking later and later", async () => {
  await using bed = await ControllerBed.start({ objects });
  bed.server.forbid("patch", "nodes");
  await using agent = new Agent(bed, 0);
  await pause(1_000);
  match(agent.log[0]!, /Taint of this node could not be looked at .*cannot patch resource/);
  equal(agent.log.length <= 6, true, `${agent.log.length} lines in a second`);
  bed.server.allow("patch", "nodes");
  await until(() => !bed.isTainted("n1"), "n1 is free");
});
