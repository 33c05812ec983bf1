/** A packet's way as a picture in SVG, which needs nothing but a browser. */
import { conditionsText } from "./describe.ts";
import { endsOf, placesOf, type Way } from "./picture.ts";

/** Sizes in pixels. */
const width = 900;
const margin = 16;
const row = 24;
const gap = 28;
/** Longest text of a line; what is longer is cut, the whole stands in its title. */
const longest = { conditions: 58, because: 38, end: 104 };

/** Colours of both worlds, day and night. */
const style = `
  text { font: 13px ui-monospace, monospace; fill: #1f2328 }
  .name { font-weight: bold }
  .box { fill: #ffffff; stroke: #8c959f }
  .end { fill: #ddf4ff; stroke: #0969da }
  .met { fill: #d7f5dd }
  .passed { fill: none }
  .dim { fill: #57606a }
  .way { stroke: #1a7f37; stroke-width: 2; fill: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .box { fill: #0d1117; stroke: #6e7681 }
    .end { fill: #0c2d6b; stroke: #58a6ff }
    .met { fill: #12411f }
    .dim { fill: #8d96a0 }
  }
`;

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
    // Nothing else of the control characters is allowed in XML 1.0.
    // deno-lint-ignore no-control-regex
    .replace(/[\x00-\x08\x0b\x0c\x0e-\x1f]/g, "�");
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

/**
 * Draws a packet's way: a box for each chain that it goes through, a line for each rule that it meets,
 * the ones that it matches in green.
 *
 * @returns An SVG document with a final line end.
 */
export function svgOfWay(way: Way): string {
  const { from, to } = endsOf(way);
  const parts: string[] = [];
  let y = margin;
  const end = (text: string) => {
    parts.push(
      box("end", y, row + 8),
      textAt(margin + 12, y + 21, cut(text, longest.end), "name"),
    );
    y += row + 8;
  };
  const arrow = () => {
    const x = width / 2;
    parts.push(
      `<path class="way" d="M${x} ${y} V${y + gap - 6} M${x - 5} ${y + gap - 8} L${x} ${
        y + gap - 1
      } L${x + 5} ${y + gap - 8}"/>`,
    );
    y += gap;
  };
  end(from);
  for (const { name, steps } of placesOf(way.evaluation)) {
    arrow();
    const top = y;
    parts.push(box("box", top, row * (steps.length + 1) + 8));
    parts.push(textAt(margin + 12, top + 18, name, "name"));
    y += row;
    for (const { matched, position, rule, because } of steps) {
      const conditions = conditionsText(rule);
      parts.push(
        `<g><title>${escaped(`${rule.id}: ${rule.comment}. ${conditions}: ${because}`)}</title>` +
          `<rect class="${matched ? "met" : "passed"}" x="${margin + 4}" y="${y + 1}" width="${
            width - 2 * margin - 8
          }" height="${row - 2}"/>`,
        textAt(margin + 12, y + 17, `${position}`.padStart(3), "dim"),
        textAt(margin + 48, y + 17, rule.id, matched ? "name" : "dim"),
        textAt(margin + 92, y + 17, cut(conditions, longest.conditions), matched ? "" : "dim"),
        textAt(margin + 560, y + 17, cut(because, longest.because), matched ? "name" : "dim"),
        "</g>",
      );
      y += row;
    }
    y += 8;
  }
  arrow();
  end(to);
  return document(`${from}: ${to}`, parts, y + margin);
}

/** Draws that nothing is redirected, and why. */
export function svgOfSkip(text: string): string {
  const shown = textAt(margin + 12, margin + 21, cut(text, longest.end), "name");
  return document(text, [box("end", margin, row + 8), shown], row + 8 + 2 * margin);
}

function document(title: string, parts: readonly string[], height: number): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ` +
    `${width} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${style}</style>`,
    ...parts,
    "</svg>",
  ].join("\n") + "\n";
}

function box(kind: "box" | "end", y: number, height: number): string {
  const round = kind === "end" ? 16 : 4;
  return `<rect class="${kind}" x="${margin}" y="${y}" width="${
    width - 2 * margin
  }" height="${height}" rx="${round}"/>`;
}

function textAt(x: number, y: number, text: string, kind: string): string {
  const named = kind === "" ? "" : ` class="${kind}"`;
  return `<text x="${x}" y="${y}"${named} xml:space="preserve">${escaped(text)}</text>`;
}
