/** The agent killed before each of its calls of the C library in a call that it serves. */
import assert from "node:assert/strict";
import { killAgents } from "./support/agent_kills.ts";
import "./support/load_libc.ts";

Deno.test("an agent that is killed before any call of the C library costs the pod nothing", async () => {
  const killed = await killAgents(1);
  assert.ok(killed >= 60, `only ${killed} points`);
});
