/**
 * What stood in the net dir's files before the installer changed them, kept on the host so that
 * uninstalling restores them byte for byte, also after crashes and by another version.
 *
 * A lost or damaged journal loses nothing that matters: taking our entry out of a list is the exact
 * inverse of putting it in.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { type Attributes, writeTemporary } from "./host_files.ts";
import type { Operations } from "./operations.ts";
import { ownGid, ownUid } from "./owner.ts";

/** What stood at a name. */
export type Before =
  | { readonly kind: "absent" }
  | ({ readonly kind: "file"; readonly content: Uint8Array } & Attributes)
  | { readonly kind: "link"; readonly target: string };

/** Record of one file of the net dir. */
export interface JournalEntry {
  readonly before: Before;
  /** SHA-256 of what the installer wrote, hexadecimal. */
  readonly wrote: string;
}

/** Records by file name. */
export type Journal = ReadonlyMap<string, JournalEntry>;

/** Returns the SHA-256 of bytes, hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Reads the journal; whatever is missing or damaged in it is left out. */
export function parseJournal(bytes: Uint8Array | undefined): Journal {
  const journal = new Map<string, JournalEntry>();
  let files: unknown;
  try {
    const value = JSON.parse(new TextDecoder().decode(bytes ?? new Uint8Array()));
    files = value?.version === 1 ? value.files : undefined;
  } catch {
    return journal;
  }
  if (typeof files !== "object" || files === null) return journal;
  for (const [name, value] of Object.entries(files)) {
    const entry = parseEntry(value);
    if (entry !== undefined && !name.includes("/")) journal.set(name, entry);
  }
  return journal;
}

function parseEntry(value: unknown): JournalEntry | undefined {
  const { before, wrote } = (value ?? {}) as Record<string, unknown>;
  if (typeof wrote !== "string" || typeof before !== "object" || before === null) return undefined;
  const fields = before as Record<string, unknown>;
  if (fields.kind === "absent") return { wrote, before: { kind: "absent" } };
  if (fields.kind === "link" && typeof fields.target === "string") {
    return { wrote, before: { kind: "link", target: fields.target } };
  }
  const { content, mode, uid, gid } = fields;
  if (
    fields.kind !== "file" || typeof content !== "string" || !isNumber(mode) || !isNumber(uid) ||
    !isNumber(gid)
  ) {
    return undefined;
  }
  const bytes = new Uint8Array(Buffer.from(content, "base64"));
  return { wrote, before: { kind: "file", content: bytes, mode, uid, gid } };
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Reads the journal; a missing one is empty. */
export function readJournal(operations: Operations, stateDir: string): Journal {
  return parseJournal(operations.read(journalPath(stateDir)));
}

/** Returns the journal's file content. */
function formatJournal(journal: Journal): Uint8Array<ArrayBuffer> {
  const files = Object.fromEntries(
    Array.from(journal, ([name, { before, wrote }]) => [
      name,
      {
        wrote,
        before: before.kind === "file"
          ? { ...before, content: Buffer.from(before.content).toString("base64") }
          : before,
      },
    ]),
  );
  return new TextEncoder().encode(JSON.stringify({ version: 1, files }, null, 1) + "\n");
}

/** Writes the journal atomically into our own folder, readable for root only. */
export function writeJournal(operations: Operations, stateDir: string, journal: Journal): void {
  const path = journalPath(stateDir);
  const owner = { mode: 0o600, uid: ownUid(), gid: ownGid() };
  const temporary = writeTemporary(operations, path, formatJournal(journal), owner);
  operations.rename(temporary, path);
  operations.syncDirectory(stateDir);
}

/** Returns the journal's path. */
export function journalPath(stateDir: string): string {
  return `${stateDir}/journal.json`;
}
