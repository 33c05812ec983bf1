/** How a value is declared. */
import { type Kind, textLike } from "./kinds.ts";

/** Declaration of one value. */
export interface ValueDeclaration<T = unknown> {
  readonly kind: Kind<T>;
  readonly default: T;
  /** One sentence for people. */
  readonly help: string;
  /** Where it ends up: an object and its field, or another program. */
  readonly goesTo: string;
  /** kumactl's flag for it, if it has one. */
  readonly flag?: string;
}

/** Declares a value. */
export function value<T>(
  kind: Kind<T>,
  preset: NoInfer<T>,
  help: string,
  goesTo: string,
  flag?: string,
): ValueDeclaration<T> {
  return { kind, default: preset, help, goesTo, ...(flag === undefined ? {} : { flag }) };
}

/** Where values go that this program has no object for. */
export const elsewhere = "the control plane's chart; nothing here";

/** An image's registry. */
export const registry = textLike(
  "a registry, such as registry.example:5000/mesh, or nothing",
  "^[A-Za-z0-9._:/-]*$",
);

/** An image's tag. */
export const tag = textLike(
  "an image tag, or nothing",
  "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$",
);
