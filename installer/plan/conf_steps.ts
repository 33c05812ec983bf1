/** Decides what must be done to the net dir's configuration files. Pure. */
import {
  chain,
  isChained,
  listOfSingle,
  parseList,
  pluginType,
  unchain,
} from "../conflist/conflist.ts";
import { bytesOf, canonicalJson, parseJson } from "../conflist/json_edit.ts";
import { type Attributes, sameBytes } from "../host/host_files.ts";
import { type Before, type Journal, sha256 } from "../host/journal.ts";
import type { NetFile, Observed } from "../host/observe.ts";
import { ownGid, ownUid } from "../host/owner.ts";
import type { Settings } from "../settings/declarations.ts";
import { chooseTarget, classify, derivedNameOf, shadowOf } from "./detect.ts";
import type { Cause, Plan, Step } from "./steps.ts";

/** Returns the steps that chain our entry to another plugin's configuration. */
export function chainSteps(
  settings: Settings,
  seen: Observed,
  entry: string,
): Omit<Plan, "warnings"> {
  const target = chooseTarget(seen.files, settings.confName);
  if (target.kind === "waiting") {
    return {
      steps: leftovers(settings, seen, new Set()),
      waitingFor: target.for,
      isUnreadable: target.unreadable !== undefined,
    };
  }
  const file = target.file as NetFile;
  const steps: Step[] = [];
  let chained = file.name;
  if (target.is.kind === "list") {
    const step = listStep(file, entry, seen.journal);
    if (step !== undefined) steps.push(step);
  } else {
    let text = file.text!;
    if (target.is.kind === "reference-list") {
      text = target.is.repaired;
      const content = bytesOf(text);
      const before: Before = { kind: "file", content, ...attributesOf(file) };
      steps.push(writeStep(file, "left-over", content, before));
    }
    chained = derivedNameOf(file.name);
    const step = derivedStep(seen, chained, file, bytesOf(listOfSingle(text, entry)));
    if (step !== undefined) steps.push(step);
  }
  const shadow = shadowOf(seen.files, chained);
  return {
    steps: [...steps, ...leftovers(settings, seen, new Set([file.name, chained]))],
    target: chained,
    ...(shadow === undefined ? {} : {
      blocked: `The runtime loads "${shadow}" before "${chained}", so pods are not captured; ` +
        `set CNI_CONF_NAME to "${shadow}", or leave it empty`,
    }),
  };
}

function listStep(file: NetFile, entry: string, journal: Journal): Step | undefined {
  const text = file.text!;
  const list = parseList(text);
  if (isChained(list, entry)) return undefined;
  const bare = unchain(text);
  const types = list.plugins.items.map((item) =>
    item.kind === "object" &&
    item.members.some((m) =>
      m.key === "type" && m.value.kind === "scalar" && m.value.value === pluginType
    )
  );
  const count = types.filter(Boolean).length;
  const cause = count === 0
    ? "entry-missing"
    : count > 1 || types.at(-1) === false
    ? "entry-not-last"
    : "entry-changed";
  return writeStep(file, cause, bytesOf(chain(text, entry)), beforeOf(file, bare, journal));
}

/** What uninstalling restores: for a text that we wrote ourselves, what stood there before it. */
function beforeOf(file: NetFile, bare: string, journal: Journal): Before {
  const known = journal.get(file.name);
  if (known !== undefined && file.content !== undefined && known.wrote === sha256(file.content)) {
    return known.before;
  }
  if (file.link !== undefined) return { kind: "link", target: file.link };
  return { kind: "file", content: bytesOf(bare), ...attributesOf(file) };
}

function derivedStep(
  seen: Observed,
  name: string,
  source: NetFile,
  content: Uint8Array<ArrayBuffer>,
): Step | undefined {
  const existing = seen.files.find((file) => file.name === name);
  if (sameBytes(existing?.content, content) && existing?.link === undefined) return undefined;
  return {
    kind: "write",
    cause: existing === undefined ? "file-missing" : "file-changed",
    name,
    expected: existing?.content,
    content,
    attributes: attributesOf(source),
    before: existing?.text !== undefined && isForeign(existing)
      ? beforeOf(existing, existing.text, seen.journal)
      : { kind: "absent" },
  };
}

function isForeign(file: NetFile): boolean {
  const { kind } = classify(file);
  return kind === "list" || kind === "single";
}

/** Name of the file in standalone mode when none is configured, as in the reference installer. */
const standaloneName = "YYY-kuma-cni.conf";

/** Returns the steps that keep a configuration file of our own. */
export function standaloneSteps(
  settings: Settings,
  seen: Observed,
  entry: string,
): Omit<Plan, "warnings"> {
  const name = settings.confName || standaloneName;
  const existing = seen.files.find((file) => file.name === name);
  const content = bytesOf(entry);
  const is = existing === undefined ? undefined : classify(existing);
  if (is?.kind === "single" || is?.kind === "list") {
    return {
      steps: [],
      waitingFor: `another value of CNI_CONF_NAME: "${name}" holds another plugin's ` +
        "configuration, and CHAINED_CNI_PLUGIN is false",
    };
  }
  const steps: Step[] = [];
  if (existing === undefined || !isSameJson(existing, entry)) {
    const known = seen.journal.get(name);
    const before: Before = existing?.content !== undefined && is?.kind === "broken"
      ? beforeOf(existing, existing.text!, seen.journal)
      : known?.before ?? { kind: "absent" };
    steps.push({
      kind: "write",
      cause: existing === undefined ? "file-missing" : "file-changed",
      name,
      expected: existing?.content,
      content,
      attributes: existing === undefined
        ? { mode: 0o600, uid: ownUid(), gid: ownGid() }
        : attributesOf(existing),
      before,
    });
  }
  return { steps: [...steps, ...leftovers(settings, seen, new Set([name]))], target: name };
}

function isSameJson(file: NetFile, entry: string): boolean {
  try {
    const text = file.text ?? "";
    return canonicalJson(text, parseJson(text)) === canonicalJson(entry, parseJson(entry));
  } catch {
    return false;
  }
}

/** Takes out what an earlier configuration or version of ours left in other files. */
function leftovers(settings: Settings, seen: Observed, keep: ReadonlySet<string>): Step[] {
  return seen.files.filter((file) => !keep.has(file.name)).flatMap((file): Step[] => {
    const is = classify(file);
    const expected = file.content;
    if (is.kind === "derived" || (is.kind === "own" && !file.name.endsWith(".conflist"))) {
      // While nothing carries our entry yet, even an old file of ours is better than none.
      const isOrphan = !seen.files.some(({ name }) => derivedNameOf(name) === file.name);
      if (keep.size === 0 && !(is.kind === "derived" && isOrphan)) return [];
      return [{ kind: "remove", cause: "left-over", name: file.name, expected }];
    }
    // When the file is found by looking, the primary plugin may come back to one that it had.
    const mayComeBack = settings.chained && settings.confName === "";
    if (is.kind !== "list" || mayComeBack || keep.size === 0) return [];
    if (!is.types.includes(pluginType)) return [];
    return [writeStep(file, "left-over", bytesOf(unchain(file.text!)))];
  });
}

function writeStep(
  file: NetFile,
  cause: Cause,
  content: Uint8Array<ArrayBuffer>,
  before?: Before,
): Step {
  return {
    kind: "write",
    cause,
    name: file.name,
    expected: file.content,
    content,
    attributes: attributesOf(file),
    ...(before === undefined ? {} : { before }),
  };
}

function attributesOf(file: NetFile): Attributes {
  const { mode, uid, gid } = file.status;
  return { mode, uid, gid };
}
