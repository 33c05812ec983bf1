/** Lets Deno see other environment variables for a moment: some of its settings can be made no other way. */

/**
 * Runs synchronous work under other variables, which are as before afterwards: a program that this one
 * starts may need them. Needs `--allow-env` for them.
 *
 * @param variables Values by name; `undefined` takes a variable away.
 * @returns What `work` returns.
 */
export function withVariables<T>(
  variables: Readonly<Record<string, string | undefined>>,
  work: () => T,
): T {
  const before: Record<string, string | undefined> = {};
  for (const name in variables) {
    before[name] = Deno.env.get(name);
    setVariable(name, variables[name]);
  }
  try {
    return work();
  } finally {
    for (const name in variables) setVariable(name, before[name]);
  }
}

function setVariable(name: string, value: string | undefined): void {
  if (value === undefined) Deno.env.delete(name);
  else Deno.env.set(name, value);
}
