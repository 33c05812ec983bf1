/** What a program does before its first instruction. */

/**
 * Machine code that goes to `/` when the working directory is gone or out of reach, and then to the
 * program's own beginning: denort asks for the working directory before it looks at anything, and ends
 * with exit code 101 and no answer when it has none. A runtime that was started in a folder which is
 * deleted later is in that place.
 *
 * Calls: getcwd(2), chdir(2); registers as the System V ABI for x86-64 has them at the entry, where
 * `rdx` must be kept and the others are free.
 *
 * @param machine As `describeElf` names it.
 * @param address Where the code will stand.
 * @param entry The program's own beginning.
 * @returns `undefined` for a machine for which there is none.
 */
export function workingDirectoryStub(
  machine: string,
  address: number,
  entry: number,
): Uint8Array<ArrayBuffer> | undefined {
  if (machine !== "x86_64") return undefined;
  const code = Uint8Array.of(
    ...[0xb8, 79, 0, 0, 0], //                      mov eax, getcwd
    ...[0x48, 0x81, 0xec, 0, 0x10, 0, 0], //        sub rsp, 4096
    ...[0x48, 0x89, 0xe7], //                       mov rdi, rsp
    ...[0xbe, 0, 0x10, 0, 0], //                    mov esi, 4096
    ...[0x0f, 0x05], //                             syscall
    ...[0x85, 0xc0], //                             test eax, eax
    ...[0x78, 6], //                                js to chdir
    ...[0x80, 0x3c, 0x24, 0x2f], //                 cmp byte [rsp], "/": else it is out of reach
    ...[0x74, 14], //                               je to the end
    ...[0xb8, 80, 0, 0, 0], //                      mov eax, chdir
    ...[0x48, 0x8d, 0x3d, 14, 0, 0, 0], //          lea rdi, [the root's name]
    ...[0x0f, 0x05], //                             syscall
    ...[0x48, 0x81, 0xc4, 0, 0x10, 0, 0], //        add rsp, 4096
    ...[0xe9, 0, 0, 0, 0], //                       jmp to the program's own beginning
    ...[0x2f, 0], //                                "/"
  );
  const afterJump = code.length - 2;
  new DataView(code.buffer).setInt32(afterJump - 4, entry - (address + afterJump), true);
  return code;
}
