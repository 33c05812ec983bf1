/**
 * The cache of the end-to-end tests' parts, outside of the repository: what was fetched stays in
 * `downloads`, what is ready in `parts`, each put there by one rename. `work` may be cut off at any
 * time; the next run goes on with what the package clients have kept.
 */
import { installMissingPackages } from "../packages.ts";
import { sha256 } from "../sha256.ts";
import { make } from "./recipes.ts";
import type { Part } from "./parts.ts";
import { madePart } from "./verification.ts";

/** A part cannot be had; the message tells which step failed and what its program said. */
export class PartError extends Error {
  override readonly name = "PartError";
}

/** Folder of the cache. */
export const cache: string = Deno.env.get("KUMA_CNI_E2E_CACHE") || "/var/cache/kuma-cni-e2e";

const had = new Map<string, Promise<string>>();

/**
 * Returns the folder of a part, made when it is not there.
 *
 * @param name Its name, with the version the name of its folder.
 */
export function obtain(name: string, part: Part): Promise<string> {
  const known = had.get(name);
  if (known !== undefined) return known;
  const folder = find(name, part);
  had.set(name, folder);
  return folder;
}

async function find(name: string, part: Part): Promise<string> {
  const ready = `${cache}/parts/${name}-${await mark(part)}`;
  if (await isThere(ready)) return ready;
  for (const folder of ["parts", "downloads", "work"]) {
    await Deno.mkdir(`${cache}/${folder}`, { recursive: true });
  }
  // Another part that this one needs, as Go, has a lock of its own.
  using lock = await Deno.open(`${cache}/work/${name}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await isThere(ready)) return ready;
  await installMissingPackages(new URL("debian_packages.txt", import.meta.url).pathname);
  const started = Date.now();
  const note = part.note === undefined ? "" : `, which takes about ${part.note}`;
  console.error(`e2e: getting ${name} (${part.version})${note}`);
  const output = `${cache}/work/${name}.new`;
  await removeIfThere(output);
  await Deno.mkdir(output);
  await make(part.recipe, output, name);
  await Deno.rename(output, ready);
  const ended = Date.now();
  noteMade(name, started, ended);
  const seconds = ((ended - started) / 1000).toFixed(1);
  console.error(`e2e: ${name} is ready after ${seconds} s: ${ready}`);
  return ready;
}

/** Tells the run, for its record. */
function noteMade(name: string, started: number, ended: number): void {
  const facts = Deno.env.get("KUMA_CNI_E2E_FACTS");
  if (facts === undefined) return;
  Deno.writeTextFileSync(facts, `${madePart} ${name} ${started} ${ended}\n`, { append: true });
}

/** What a change of the recipe changes: so no folder of an older one is taken for it. */
async function mark({ recipe }: Part): Promise<string> {
  const sources = recipe.kind === "folder" ? await textsIn(recipe.folder) : "";
  const text = JSON.stringify(recipe.kind === "folder" ? { kind: recipe.kind } : recipe) + sources;
  return (await sha256(new TextEncoder().encode(text))).slice(0, 12);
}

async function textsIn(folder: string): Promise<string> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  const texts = names.map(async (name) =>
    `${name}\n${await Deno.readTextFile(`${folder}/${name}`)}`
  );
  return (await Promise.all(texts)).join("\n");
}

/** Tells whether something stands at a path. */
export async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

/** Removes a folder with all in it. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
