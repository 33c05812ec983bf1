/** The edits of configuration lists from text to text, for tests. */
import * as conflist from "../../installer/conflist/conflist.ts";
import { parseText } from "../../installer/conflist/json_edit.ts";

export function parseList(text: string): conflist.ParsedList {
  return conflist.listOf(parseText(text));
}

export function chain(text: string, entry: string): string {
  return conflist.chain(parseList(text), parseText(entry));
}

export function unchain(text: string): string {
  return conflist.unchain(parseList(text));
}

export function isChained(text: string, entry: string): boolean {
  return conflist.isChained(parseList(text), parseText(entry));
}

export function listOfSingle(text: string, entry: string): string {
  return conflist.listOfSingle(conflist.singleOf(parseText(text)), parseText(entry));
}

export function singleOfReferenceList(text: string): string | undefined {
  return conflist.singleOfReferenceList(parseText(text));
}
