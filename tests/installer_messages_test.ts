/**
 * The tables of install-cni's messages in docs/operations.md and docs/controller.md, and the code: each
 * message that can keep the agent from being ready, and each warning and error, stands in a table, and
 * none else does.
 */
import { deepEqual, ok } from "node:assert/strict";

const root = new URL("..", import.meta.url).pathname;

/** Where messages are made, and what stands in front of their text there. */
const places: readonly { readonly below: string; readonly marks: readonly RegExp[] }[] = [
  {
    below: "installer",
    marks: [
      /\blog\.(?:warn|error)\(\s*/g,
      /\.tell\("(?:warn|error)",\s*/g,
      /\bwarnings\.push\(\s*/g,
      /\bnew UninstallError\(\s*/g,
    ],
  },
  {
    below: "installer/plan",
    marks: [/\b(?:waitingFor|remark|for):\s*/g, /\breturn (?=`a )/g, /\bremarks\.push\(\s*/g],
  },
  { below: "installer/plan/detect.ts", marks: [/^\s+[?:] /gm] },
  { below: "installer/loop", marks: [/\bconst reason = /g, /\bidle\(/g] },
  { below: "installer/runtime", marks: [/\bproblem:\s*/g, /\bconst warning = /g] },
  { below: "installer/runtime/capture.ts", marks: [/\breturn (?!`set )/g, /^\s+[?:] /gm] },
  { below: "installer/host/runtime_view.ts", marks: [/\bwrong(?:Net|Bin)Dir:\s*/g] },
  { below: "installer/cluster/doubts.ts", marks: [/\btext:\s*/g, /\bconst text = /g] },
  { below: "installer/settings/plugin_entry.ts", marks: [/\) =>\s*/g] },
  { below: "installer/commands/install.ts", marks: [/\breturn \[\s*/g] },
];

function* sourcesBelow(path: string): Generator<string> {
  if (path.endsWith(".ts")) return yield path;
  for (const { name } of Deno.readDirSync(`${root}${path}`)) yield* sourcesBelow(`${path}/${name}`);
}

/** Returns the text that begins at a place of the source, with `…` for what is put in. */
function textAt(source: string, start: number): string {
  let text = "";
  for (let at = start;;) {
    const quote = source[at];
    if (quote !== '"' && quote !== "'" && quote !== "`") return text === "" ? "" : `${text}…`;
    for (at++; source[at] !== quote; at++) {
      if (source[at] === "\\") text += source[++at];
      else if (quote === "`" && source.startsWith("${", at)) {
        text += "…";
        let depth = 0;
        do {
          if (source[at] === "{") depth++;
          if (source[at] === "}") depth--;
          at++;
        } while (depth > 0 || source[at - 1] === "$");
        at--;
      } else text += source[at];
    }
    const plus = /^\s*\+\s*/.exec(source.slice(at + 1));
    if (plus === null) return text;
    at += 1 + plus[0].length;
  }
}

/** Words round messages that stand in the table themselves. */
const frames: ReadonlySet<string> = new Set(["Waiting for …", "…, so pods are not captured"]);

function messagesInCode(): string[] {
  const messages = new Set<string>();
  for (const { below, marks } of places) {
    for (const path of sourcesBelow(below)) {
      const source = Deno.readTextFileSync(`${root}${path}`);
      for (const mark of marks) {
        for (const match of source.matchAll(mark)) {
          const text = textAt(source, match.index + match[0].length);
          const isWhole = text.includes(" ") && !/^[,;]/.test(text);
          if (isWhole && !frames.has(text)) messages.add(text);
        }
      }
    }
  }
  return [...messages];
}

/** Messages of the tables, without the words that the loop puts in front of them. */
function messagesInDocument(): string[] {
  const read = (name: string) => Deno.readTextFileSync(`${root}docs/${name}`);
  const ofAgent = /^## The node agent is not ready\n([^]*?)^## /m.exec(read("operations.md"));
  const ofController = /^## Its warnings\n([^]*)/m.exec(read("controller.md"));
  return `${ofAgent?.[1] ?? ""}${ofController?.[1] ?? ""}`.split("\n").filter((line) =>
    line.startsWith("| `")
  )
    .flatMap((line) => line.split("|")[1]!.match(/`[^`]+`/g) ?? [])
    .map((message) => message.slice(1, -1).replace(/^Waiting for /, ""));
}

function isOf(message: string, text: string): boolean {
  let at = 0;
  return message.split("…").map((part) => part.trim()).every((part) => {
    const found = text.indexOf(part, at);
    at = found + part.length;
    return found >= 0;
  });
}

Deno.test("the documents have each message of install-cni, and none that is not there", () => {
  const [code, document] = [messagesInCode(), messagesInDocument()];
  ok(code.length > 50 && document.length > 50, `${code.length}, ${document.length}`);
  deepEqual(
    {
      undocumented: code.filter((text) => !document.some((message) => isOf(message, text))),
      unknown: document.filter((message) => !code.some((text) => isOf(message, text))),
    },
    { undocumented: [], unknown: [] },
  );
});
