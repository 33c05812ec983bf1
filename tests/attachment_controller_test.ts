/** NetworkAttachmentDefinitions by namespace label: the table, and the loop against the stand-in. */
import { deepEqual, equal, match } from "node:assert/strict";
import {
  type AttachmentFacts,
  decideAttachment,
} from "../installer/controller/attachment_decision.ts";
import { parseAttachment } from "../installer/controller/attachment.ts";
import {
  attachment,
  attachmentDefinition,
  ControllerBed,
  namespace,
  pause,
  until,
} from "./support/controller_bed.ts";
import type { KubernetesObject } from "./support/pods.ts";

const resource = "network-attachment-definitions";

/** Namespaces that have the attachment definition. */
function attached(bed: ControllerBed): string[] {
  const { items } = bed.server.store.list({
    resource,
    namespace: undefined,
    parameters: new URLSearchParams(),
  });
  return (items as KubernetesObject[]).filter(({ metadata }) => metadata.name === "kuma-cni")
    .map(({ metadata }) => metadata.namespace!).sort();
}

function writes(bed: ControllerBed): string[] {
  return bed.server.requests.filter(({ target, verb }) =>
    target.includes(resource) && ["create", "patch", "delete"].includes(verb)
  ).map(({ verb, target }) => `${verb} ${/namespaces\/([^/]+)/.exec(target)?.[1]}`);
}

async function bedOf(...objects: KubernetesObject[]): Promise<ControllerBed> {
  return await ControllerBed.start({ objects, settings: { taintEnabled: false } });
}

Deno.test("attachment table", async (t) => {
  const words = ["enabled", "true", "yes", "disabled", "false", "no"];
  const owners = [undefined, "ours", "ours-changed", "reference", "foreign"] as const;
  const actions = (facts: Partial<AttachmentFacts>) =>
    owners.map((attachment) => {
      const given = { terminating: false, label: undefined, attachment, ...facts };
      const decision = decideAttachment(given);
      return decision.action === "say" ? decision.reason : decision.action;
    });
  for (const label of words) {
    await t.step(`label ${label}`, () => {
      const expected = ["create", "none", "AttachmentNotOurs", "adopt", "AttachmentNotOurs"];
      deepEqual(actions({ label }), expected);
      deepEqual(actions({ label, terminating: true }), Array(5).fill("none"));
    });
  }
  await t.step("no label", () => {
    deepEqual(actions({}), ["none", "delete", "none", "none", "none"]);
    deepEqual(actions({ terminating: true }), Array(5).fill("none"));
  });
  for (const label of ["", "Enabled", "on", "1"]) {
    await t.step(`label ${JSON.stringify(label)}`, () => {
      deepEqual(actions({ label }), Array(5).fill("InvalidLabel"));
    });
  }
});

Deno.test("whose an attachment definition is", () => {
  const ours = { "app.kubernetes.io/managed-by": "kuma-cni-controller" };
  const stored = (object: KubernetesObject, more: Record<string, unknown> = {}) => ({
    ...object,
    metadata: { ...object.metadata, uid: "u", resourceVersion: "1", ...more },
  });
  equal(parseAttachment(stored(attachment("a", { labels: ours }))).owner, "ours");
  equal(
    parseAttachment(stored(attachment("a", { labels: ours, config: "{}" }))).owner,
    "ours-changed",
  );
  equal(parseAttachment(stored(attachment("a"))).owner, "reference");
  equal(parseAttachment(stored(attachment("a", { config: "{}" }))).owner, "foreign");
  equal(parseAttachment(stored(attachment("a", { labels: { team: "x" } }))).owner, "foreign");
  equal(parseAttachment(stored(attachment("a"), { ownerReferences: [] })).owner, "foreign");
});

Deno.test("objects come and go with the label, and only ours go", async () => {
  await using bed = await bedOf(
    attachmentDefinition(),
    namespace("on", "enabled"),
    namespace("off", "disabled"),
    namespace("plain"),
    namespace("reference", "true"),
    attachment("reference"),
    namespace("theirs"),
    attachment("theirs"),
    attachment("plain", { name: "other" }),
    namespace("going", "enabled", { deletionTimestamp: "2026-01-15T09:30:00Z" }),
  );
  await bed.leader();
  const { store } = bed.server;
  await until(() => writes(bed).length === 3, "three writes");
  deepEqual(attached(bed), ["off", "on", "reference", "theirs"]);
  deepEqual(writes(bed).sort(), ["create off", "create on", "patch reference"]);
  const made = store.get(resource, "on", "kuma-cni");
  deepEqual([made.spec, made.metadata.labels], [
    { config: "" },
    { "app.kubernetes.io/managed-by": "kuma-cni-controller" },
  ]);
  store.put(namespace("on"));
  store.put(namespace("reference"));
  await until(() => attached(bed).length === 2, "two are deleted");
  deepEqual(attached(bed), ["off", "theirs"]);
  // Deleted by somebody while it is wanted.
  store.delete(resource, "off", "kuma-cni");
  await until(() => attached(bed).includes("off"), "it is made again");
  await pause(200);
  equal(writes(bed).length, 6);
});

Deno.test("the kind of object comes and goes while it runs", async () => {
  await using bed = await bedOf(namespace("a", "yes"));
  await bed.leader();
  await pause(200);
  deepEqual(writes(bed), []);
  const asked = () =>
    bed.server.requests.filter(({ target }) => target.includes("namespaces?")).length;
  equal(asked(), 0, "namespaces are not followed for nothing");
  bed.server.store.put(attachmentDefinition());
  await until(() => attached(bed).length === 1, "it is made");
  bed.server.store.delete(resource, "a", "kuma-cni");
  bed.server.store.delete(
    "customresourcedefinitions",
    undefined,
    attachmentDefinition().metadata.name,
  );
  await pause(200);
  bed.server.store.put(attachmentDefinition());
  await until(() => attached(bed).length === 1, "it is made again");
});

Deno.test("a wrong label is said once, and is no storm", async () => {
  await using bed = await bedOf(attachmentDefinition(), namespace("a", "on"));
  await bed.leader();
  await until(() => bed.events("a").length === 1, "an Event");
  match(
    bed.events("a")[0]!,
    /InvalidLabel: Label kuma.io\/sidecar-injection is "on", expected enabled/,
  );
  for (let i = 0; i < 5; i++) {
    bed.server.store.put(namespace("a", "on", { annotations: { round: String(i) } }));
    await pause(20);
  }
  await pause(500);
  deepEqual([bed.events("a").length, writes(bed)], [1, []]);
  bed.server.store.put(namespace("a", "no"));
  await until(() => attached(bed).length === 1, "it is made");
});

Deno.test("what somebody else has changed is left alone and said", async () => {
  await using bed = await bedOf(
    attachmentDefinition(),
    namespace("changed", "true"),
    namespace("foreign", "true"),
    attachment("foreign", { config: '{"type":"bridge"}' }),
  );
  await bed.leader();
  await until(() => attached(bed).includes("changed"), "it is made");
  const { store } = bed.server;
  const made = structuredClone(store.get(resource, "changed", "kuma-cni"));
  store.put({ ...made, spec: { config: "{}" } });
  await until(() => bed.events("changed").length === 1, "an Event");
  match(bed.events("changed")[0]!, /left alone: it was changed/);
  match(bed.events("foreign")[0]!, /left alone: it is somebody else's/);
  store.put(namespace("changed"));
  store.put(namespace("foreign"));
  await pause(300);
  deepEqual([attached(bed), writes(bed)], [["changed", "foreign"], ["create changed"]]);
});

Deno.test("next to a control plane that does the same nothing is written twice", async () => {
  await using bed = await bedOf(attachmentDefinition());
  await bed.leader();
  const { store } = bed.server;
  for (let i = 0; i < 10; i++) {
    store.put(namespace(`n${i}`, "enabled"));
    // The reference's controller, at the same moment.
    store.put(attachment(`n${i}`));
  }
  await until(
    () => writes(bed).filter((write) => write.startsWith("patch")).length === 10,
    "adopted",
  );
  for (let i = 0; i < 10; i++) {
    store.put(namespace(`n${i}`));
    store.delete(resource, `n${i}`, "kuma-cni");
  }
  await pause(500);
  deepEqual(attached(bed), []);
  // At most one attempt to create, to adopt and to delete each.
  equal(writes(bed).length <= 30, true);
});

Deno.test("conflicts, failures and lost watches end in the right objects", async () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  await using bed = await bedOf(
    attachmentDefinition(),
    ...names.map((name) => namespace(name, "yes")),
  );
  bed.server.inject({ kind: "status", code: 500 }, { verb: "create", path: resource, times: 10 });
  await bed.leader();
  for (const [i, name] of names.entries()) {
    if (i % 2 === 0) bed.server.store.put(namespace(name));
    if (i % 5 === 0) bed.server.closeConnections();
    if (i % 7 === 0) bed.server.store.compact();
    await pause(20);
  }
  const expected = names.filter((_, i) => i % 2 === 1).sort();
  await until(() => JSON.stringify(attached(bed)) === JSON.stringify(expected), "the right end");
  equal(writes(bed).length <= 3 * names.length + 10, true, `${writes(bed).length} writes`);
});
