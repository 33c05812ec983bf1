/**
 * Each value, declared once: name, kind, default, help, and where it goes. Parsing, checking,
 * `--help`, `values.yaml`, `values.schema.json` and `docs/values.md` come from here.
 *
 * Names and defaults are those of Kuma's chart where it has the value; `docs/differences.md` says
 * where a default is not the same.
 */
import { chartValues } from "./chart_declarations.ts";
import { controllerValues } from "./controller_declarations.ts";
import { daemonSetValues } from "./daemonset_declarations.ts";
import { monitoringValues } from "./monitoring_declarations.ts";
import { repairValues } from "./repair_declarations.ts";
import type { ValueDeclaration } from "./value_declaration.ts";

/** All values by their full name, in the order of the documentation. */
export const valueDeclarations = {
  ...daemonSetValues,
  ...repairValues,
  ...monitoringValues,
  ...controllerValues,
  ...chartValues,
} as const;

/** Full name of a value. */
export type ValueName = keyof typeof valueDeclarations;

/** What a value is in TypeScript. */
export type ValueOf<N extends ValueName> = (typeof valueDeclarations)[N] extends
  ValueDeclaration<infer T> ? T : never;

/** Returns name and declaration of all values. */
export function declaredValues(): readonly (readonly [ValueName, ValueDeclaration])[] {
  return Object.entries(valueDeclarations) as [ValueName, ValueDeclaration][];
}
