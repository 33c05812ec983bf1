/** Objects as a stream of YAML documents. */
// @ts-types="../../src/types/std_yaml_stringify.d.ts"
import { stringify } from "@std/yaml/stringify";
import type { KubernetesObject } from "./objects.ts";

/**
 * Formats objects for `kubectl apply -f -`.
 *
 * @param objects The objects.
 * @param comments Lines that stand before the first document.
 * @returns Text with a final line end.
 */
export function yamlText(
  objects: readonly KubernetesObject[],
  comments: readonly string[],
): string {
  const head = comments.map((line) => line === "" ? "#\n" : `# ${line}\n`).join("");
  // The parser of Kubernetes is of YAML 1.1, where "yes" and "0x1" without quotes are no text.
  return head +
    objects.map((object) =>
      `---\n${stringify(object, { lineWidth: -1, useAnchors: false, compatMode: true })}`
    ).join("");
}
