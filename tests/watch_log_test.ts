import assert from "node:assert/strict";
import { WatchLog } from "../installer/agent/watch_log.ts";

/** A watch log whose clock stands still unless told, and the lines that it has written. */
function scene() {
  const lines: string[] = [];
  const clock = { now: 5000 };
  const write = (level: string) => (message: string, fields: object = {}) => {
    lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
  };
  const log = new WatchLog({ info: write("info"), warn: write("warn") }, () => clock.now);
  return { lines, clock, log };
}

Deno.test("trouble with the watch is told once, then once a minute, and its end has a line", () => {
  const { lines, clock, log } = scene();
  log.synchronized(3);
  clock.now += 3_600_000;
  for (let second = 0; second < 125; second++) {
    // Messages differ when they hold a port or a time; that makes no new line.
    log.interrupted(new Error(`Connection ${second} was refused`), 1000);
    clock.now += 1000;
  }
  log.synchronized(4);
  const untold = "Pods of this node are not followed, the plugin's questions are asked live";
  assert.deepEqual(lines, [
    'info Pods of this node are followed {"pods":3}',
    `warn ${untold} {"reason":"Connection 0 was refused","retrySeconds":1}`,
    `warn ${untold} {"reason":"Connection 60 was refused","retrySeconds":1,"failuresBetween":59}`,
    `warn ${untold} {"reason":"Connection 120 was refused","retrySeconds":1,"failuresBetween":59}`,
    'info Following the pods of this node again after 125 s {"pods":4}',
  ]);
});

Deno.test("a connection that comes and goes does not fill the log", () => {
  const { lines, clock, log } = scene();
  log.synchronized(3);
  for (let second = 0; second < 50; second++) {
    log.interrupted(new Error("Connection reset by peer"), 250);
    log.synchronized(3);
    clock.now += 1000;
  }
  assert.equal(lines.length, 3, lines.join("\n"));
  assert.match(lines[2]!, /again after 0 s/);
});

Deno.test("a watch that never ran before is not followed again", () => {
  const { lines, clock, log } = scene();
  log.interrupted(new Error("Connection refused"), 250);
  clock.now += 2000;
  log.synchronized(3);
  assert.match(lines[1]!, /^info Pods of this node are followed/);
});
