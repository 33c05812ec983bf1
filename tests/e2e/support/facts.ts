/** Tells the run what its tests ran on, for docs/verification.md. */
export function fact(line: string): void {
  const path = Deno.env.get("KUMA_CNI_E2E_FACTS");
  if (path !== undefined) Deno.writeTextFileSync(path, `${line}\n`, { append: true });
}

/** A time in seconds, as facts tell it. */
export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

/** Version of a Go module that a driver of `tests/e2e/drivers` is built with. */
export function driverVersion(driver: string, module: string): string {
  const file = new URL(`../drivers/${driver}/go.mod`, import.meta.url);
  const lines = Deno.readTextFileSync(file).split("\n").map((line) => line.trim().split(" "));
  const version = lines.map((words) => words[words.indexOf(module) + 1])
    .find((word) => /^v[0-9]/.test(word ?? ""));
  if (version === undefined) throw new Error(`${driver}'s go.mod does not name ${module}`);
  return version.slice(1);
}
