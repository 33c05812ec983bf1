/** Decides what must be done to the net dir's configuration files. Pure. */
import { jsonOf } from "../conflist/conf_file.ts";
import {
  chain,
  isChained,
  listOf,
  listOfSingle,
  pluginType,
  singleOf,
  typesOf,
  unchain,
} from "../conflist/conflist.ts";
import { bytesOf, isSameJson, type JsonText, parseText } from "../conflist/json_edit.ts";
import { type Attributes, sameBytes } from "../host/host_files.ts";
import { type Before, type Journal, sha256 } from "../host/journal.ts";
import type { NetFile, Observed } from "../host/observe.ts";
import { ownGid, ownUid } from "../host/owner.ts";
import { referenceTo } from "../runtime/mentions.ts";
import { loadsSeveralFiles } from "../runtime/runtime.ts";
import type { Settings } from "../settings/declarations.ts";
import { classify, derivedNameOf } from "./detect.ts";
import { obstacleAfter, refusalOf, targetOf } from "./runtime_target.ts";
import type { Cause, Plan, Step } from "./steps.ts";

/** Returns the steps that chain our entry to another plugin's configuration. */
export function chainSteps(
  settings: Settings,
  seen: Observed,
  entry: JsonText,
): Omit<Plan, "warnings"> {
  const target = targetOf(settings, seen);
  if (target.kind === "waiting") {
    return {
      steps: leftovers(settings, seen, new Set()),
      waitingFor: target.for,
      isUnreadable: target.unreadable !== undefined,
    };
  }
  const file = target.file as NetFile;
  const refusal = refusalOf(seen, file);
  if (refusal !== undefined) {
    return { steps: withdrawal(seen, file), waitingFor: refusal };
  }
  const steps: Step[] = [];
  let chained = file.name;
  if (target.kind === "called") {
    // The administrator has put our entry into the folder of the list.
  } else if (target.is.kind === "list") {
    const step = listStep(file, entry, seen.journal);
    if (step !== undefined) steps.push(step);
  } else {
    let json = jsonOf(file);
    if (target.is.kind === "reference-list") {
      json = parseText(target.is.repaired);
      const content = bytesOf(json.text);
      const before: Before = { kind: "file", content, ...attributesOf(file) };
      steps.push(writeStep(file, "left-over", content, before));
    }
    chained = derivedNameOf(file.name);
    const step = derivedStep(seen, chained, file, bytesOf(listOfSingle(singleOf(json), entry)));
    if (step !== undefined) steps.push(step);
  }
  steps.push(...leftovers(settings, seen, new Set([file.name, chained])));
  const blocked = obstacleAfter(settings, seen, steps, chained);
  return { steps, target: chained, ...(blocked === undefined ? {} : { blocked }) };
}

/** Takes our entry out of a file that it must not stand in. */
function withdrawal(seen: Observed, file: NetFile): Step[] {
  const derived = seen.files.find(({ name }) => name === derivedNameOf(file.name));
  if (derived !== undefined && derived !== file && classify(derived).kind === "derived") {
    if (isReferred(seen, derived)) return [];
    return [{
      kind: "remove",
      cause: "left-over",
      name: derived.name,
      expected: derived.content,
    }];
  }
  const is = classify(file);
  if (is.kind !== "list" || !is.types.includes(pluginType)) return [];
  return [writeStep(file, "left-over", bytesOf(unchain(listOf(jsonOf(file)))))];
}

function listStep(file: NetFile, entry: JsonText, journal: Journal): Step | undefined {
  const list = listOf(jsonOf(file));
  if (isChained(list, entry)) return undefined;
  const bare = unchain(list);
  const types = typesOf(list).map((type) => type === pluginType);
  const count = types.filter(Boolean).length;
  const cause = count === 0
    ? "entry-missing"
    : count > 1 || types.at(-1) === false
    ? "entry-not-last"
    : "entry-changed";
  return writeStep(file, cause, bytesOf(chain(list, entry)), beforeOf(file, bare, journal));
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
  const foreign = existing?.text !== undefined && isForeign(existing) ? existing : undefined;
  return {
    kind: "write",
    cause: existing === undefined ? "file-missing" : "file-changed",
    name,
    expected: existing?.content,
    content,
    attributes: attributesOf(foreign ?? source),
    before: foreign === undefined
      ? { kind: "absent" }
      : beforeOf(foreign, foreign.text!, seen.journal),
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
  entry: JsonText,
): Omit<Plan, "warnings"> {
  const name = settings.confName || standaloneName;
  const existing = seen.files.find((file) => file.name === name);
  const content = bytesOf(entry.text);
  const is = existing === undefined ? undefined : classify(existing);
  if (is?.kind === "single" || is?.kind === "list") {
    return {
      steps: [],
      waitingFor: `another value of CNI_CONF_NAME: "${name}" holds another plugin's ` +
        "configuration, and CHAINED_CNI_PLUGIN is false",
    };
  }
  const steps: Step[] = [];
  if (existing === undefined || !says(existing, entry)) {
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

function says(file: NetFile, entry: JsonText): boolean {
  try {
    return isSameJson(jsonOf(file), entry);
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
      if (isReferred(seen, file)) return [];
      return [{ kind: "remove", cause: "left-over", name: file.name, expected }];
    }
    // When the file is found by looking, the primary plugin may come back to one that it had.
    const mayComeBack = settings.chained && settings.confName === "" &&
      !loadsSeveralFiles(seen.view.runtime);
    if (is.kind !== "list" || mayComeBack || keep.size === 0) return [];
    if (!is.types.includes(pluginType)) return [];
    return [writeStep(file, "left-over", bytesOf(unchain(listOf(jsonOf(file)))))];
  });
}

/** Another file names this one, such as Multus' `clusterNetwork`: without it no pod would start. */
function isReferred(seen: Observed, file: NetFile): boolean {
  return seen.files.some((other) =>
    other !== file && other.text !== undefined && referenceTo(other.text, file.name) !== undefined
  );
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
