/**
 * The number of the host's PID namespace for a program that runs in another one, as all do that
 * `deno task test` starts. Only that answer is played: no process can enter a PID namespace above its own.
 */
import { ok } from "node:assert/strict";

const source = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>
ssize_t readlink(const char *path, char *buffer, size_t length) {
  static ssize_t (*next)(const char *, char *, size_t);
  static const char host[] = "pid:[4026531836]";
  if (!next) next = dlsym(RTLD_NEXT, "readlink");
  if (strcmp(path, "/proc/self/ns/pid") != 0 || length < sizeof host - 1)
    return next(path, buffer, length);
  memcpy(buffer, host, sizeof host - 1);
  return sizeof host - 1;
}
`;

/**
 * Returns words in front of a command that make it believe so.
 *
 * @param folder Where the library for it is put.
 */
export function inHostPidNamespace(folder: string): readonly string[] {
  const library = `${folder}/host-pid-namespace`;
  Deno.writeTextFileSync(`${library}.c`, source);
  const { success, stderr } = new Deno.Command("gcc", {
    args: ["-shared", "-fPIC", "-o", `${library}.so`, `${library}.c`, "-ldl"],
  }).outputSync();
  ok(success, new TextDecoder().decode(stderr));
  return ["env", `LD_PRELOAD=${library}.so`];
}
