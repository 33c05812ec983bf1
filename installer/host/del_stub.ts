/**
 * The stub that stays in the plugin's place after uninstalling, while a cached chain still names it.
 *
 * CRI-O and Multus tear a pod down with the chain of its birth. Without a program of that name each
 * teardown fails, and the pod stays Terminating for ever. The stub is a static ELF program of less
 * than a kilobyte that needs nothing of the host: DEL, CHECK and GC succeed, VERSION tells the
 * versions, all else fails with an error object that says that the plugin is gone, so that no pod
 * starts uncaptured through an old copy of the list.
 *
 * It is written here in machine code since no compiler is there where it is needed. Both programs
 * begin with a table: address and length of the error object and of the answer to VERSION. Then they
 * look for `CNI_COMMAND=` in the environment, read stdin to its end, and compare the first four bytes
 * of the value (of GC, three).
 */
import { CniErrorCode } from "../../src/cni/errors.ts";
import { NEWEST_VERSION, supportedVersions } from "../../src/cni/versions.ts";

/** Architectures that the stub exists for, as Deno names them. */
export type StubArchitecture = "x86_64" | "aarch64";

/** System calls: read 0, write 1, exit_group 231. */
const x86_64 = [
  // start:
  "488b1c24", // mov rbx,[rsp]
  "488d5cdc10", // lea rbx,[rsp+rbx*8+0x10]
  "4531e4", // xor r12d,r12d
  // next:
  "488b33", // mov rsi,[rbx]
  "4883c308", // add rbx,0x8
  "4885f6", // test rsi,rsi
  "741c", // je read
  "48b8434e495f434f4d4d", // movabs rax,0x4d4d4f435f494e43
  "483906", // cmp [rsi],rax
  "75e5", // jne next
  "817e08414e443d", // cmp [rsi+0x8],0x3d444e41
  "75dc", // jne next
  "4c8d660c", // lea r12,[rsi+0xc]
  // read:
  "4881ec00100000", // sub rsp,0x1000
  // again:
  "31c0", // xor eax,eax
  "31ff", // xor edi,edi
  "4889e6", // mov rsi,rsp
  "ba00100000", // mov edx,0x1000
  "0f05", // syscall
  "4885c0", // test rax,rax
  "7fed", // jg again
  "4d85e4", // test r12,r12
  "7425", // je refuse
  "418b0424", // mov eax,[r12]
  "3d44454c00", // cmp eax,0x4c4544
  "7452", // je done
  "3d43484543", // cmp eax,0x43454843
  "744b", // je done
  "3d56455253", // cmp eax,0x53524556
  "7422", // je version
  "25ffffff00", // and eax,0xffffff
  "3d47430000", // cmp eax,0x4347
  "7438", // je done
  // refuse:
  "41bd01000000", // mov r13d,0x1
  "488b355bffffff", // mov rsi,[refusal]
  "488b155cffffff", // mov rdx,[refusal_length]
  "eb11", // jmp print
  // version:
  "4531ed", // xor r13d,r13d
  "488b3558ffffff", // mov rsi,[versions]
  "488b1559ffffff", // mov rdx,[versions_length]
  // print:
  "b801000000", // mov eax,0x1
  "bf01000000", // mov edi,0x1
  "0f05", // syscall
  "4489ef", // mov edi,r13d
  "eb02", // jmp exit
  // done:
  "31ff", // xor edi,edi
  // exit:
  "b8e7000000", // mov eax,0xe7
  "0f05", // syscall
];

/** System calls: read 63, write 64, exit_group 94. */
const aarch64 = [
  // start:
  "f30340f9", // ldr x19, [sp]
  "f36f338b", // add x19, sp, x19, lsl #3
  "73420091", // add x19, x19, #0x10
  "140080d2", // mov x20, #0x0
  "75c889d2", // mov x21, #0x4e43
  "35e9abf2", // movk x21, #0x5f49, lsl #16
  "75e8c9f2", // movk x21, #0x4f43, lsl #32
  "b5a9e9f2", // movk x21, #0x4d4d, lsl #48
  "36c88952", // mov w22, #0x4e41
  "96a8a772", // movk w22, #0x3d44, lsl #16
  // next:
  "618640f8", // ldr x1, [x19], #8
  "010100b4", // cbz x1, read
  "290040f9", // ldr x9, [x1]
  "3f0115eb", // cmp x9, x21
  "81ffff54", // b.ne next
  "290840b9", // ldr w9, [x1, #8]
  "3f01166b", // cmp w9, w22
  "21ffff54", // b.ne next
  "34300091", // add x20, x1, #0xc
  // read:
  "ff0740d1", // sub sp, sp, #0x1, lsl #12
  // again:
  "000080d2", // mov x0, #0x0
  "e1030091", // mov x1, sp
  "020082d2", // mov x2, #0x1000
  "e80780d2", // mov x8, #0x3f
  "010000d4", // svc #0x0
  "1f0000f1", // cmp x0, #0x0
  "4cffff54", // b.gt again
  "540200b4", // cbz x20, refuse
  "890240b9", // ldr w9, [x20]
  "8aa88852", // mov w10, #0x4544
  "8a09a072", // movk w10, #0x4c, lsl #16
  "3f010a6b", // cmp w9, w10
  "20030054", // b.eq done
  "6a088952", // mov w10, #0x4843
  "aa68a872", // movk w10, #0x4345, lsl #16
  "3f010a6b", // cmp w9, w10
  "a0020054", // b.eq done
  "caaa8852", // mov w10, #0x4556
  "4a6aaa72", // movk w10, #0x5352, lsl #16
  "3f010a6b", // cmp w9, w10
  "20010054", // b.eq version
  "295d0012", // and w9, w9, #0xffffff
  "ea688852", // mov w10, #0x4347
  "3f010a6b", // cmp w9, w10
  "a0010054", // b.eq done
  // refuse:
  "37008052", // mov w23, #0x1
  "41f9ff58", // ldr x1, refusal
  "62f9ff58", // ldr x2, refusal_length
  "04000014", // b print
  // version:
  "17008052", // mov w23, #0x0
  "41f9ff58", // ldr x1, versions
  "62f9ff58", // ldr x2, versions_length
  // print:
  "200080d2", // mov x0, #0x1
  "080880d2", // mov x8, #0x40
  "010000d4", // svc #0x0
  "e003172a", // mov w0, w23
  "02000014", // b exit
  // done:
  "00008052", // mov w0, #0x0
  // exit:
  "c80b80d2", // mov x8, #0x5e
  "010000d4", // svc #0x0
];

const programs = {
  // Machine numbers: `linux/elf-em.h`.
  x86_64: { machine: 62, code: x86_64 },
  aarch64: { machine: 183, code: aarch64 },
};

/** Marks the stub, whichever version of install-cni has left it. */
const marker = "kuma-cni:del-stub";
const address = 0x400000;
const headerSize = 64 + 2 * 56;
const tableSize = 32;
/** No stub is larger; the plugin has 90 MB. */
const sizeLimit = 4096;

/** Returns the stub's file. */
export function delStub(architecture: StubArchitecture): Uint8Array<ArrayBuffer> {
  const { machine, code } = programs[architecture];
  const instructions = bytesOfHex(code.join(""));
  const refusal = textBytes(JSON.stringify({
    cniVersion: NEWEST_VERSION,
    code: CniErrorCode.NotAvailable,
    msg: "kuma-cni was uninstalled from this node, and its network configuration still names it",
    details: "Install kuma-cni again, or take the entry out of the configuration",
  }));
  const versions = textBytes(
    JSON.stringify({ cniVersion: NEWEST_VERSION, supportedVersions: supportedVersions() }),
  );
  const refusalAt = headerSize + tableSize + instructions.length;
  const versionsAt = refusalAt + refusal.length;
  const markerAt = versionsAt + versions.length;
  const size = markerAt + marker.length;
  const file = new Uint8Array(size);
  const view = new DataView(file.buffer);
  const put64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);

  // ELF header: 64 bits, little endian, an executable file with two program headers.
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, machine, true);
  view.setUint32(20, 1, true);
  put64(24, address + headerSize + tableSize);
  put64(32, 64);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 2, true);
  view.setUint16(58, 64, true);
  // PT_LOAD of the whole file, readable and executable; 64 KiB are the largest pages there are.
  view.setUint32(64, 1, true);
  view.setUint32(68, 5, true);
  put64(80, address);
  put64(88, address);
  put64(96, size);
  put64(104, size);
  put64(112, 0x10000);
  // PT_GNU_STACK: hardened hosts refuse an executable stack.
  view.setUint32(120, 0x6474e551, true);
  view.setUint32(124, 6, true);
  put64(168, 16);

  put64(headerSize, address + refusalAt);
  put64(headerSize + 8, refusal.length);
  put64(headerSize + 16, address + versionsAt);
  put64(headerSize + 24, versions.length);
  file.set(instructions, headerSize + tableSize);
  file.set(refusal, refusalAt);
  file.set(versions, versionsAt);
  file.set(textBytes(marker), markerAt);
  return file;
}

/** Tells whether a program is a stub, of this version or another one. */
export function isDelStub(program: Uint8Array): boolean {
  return program.length <= sizeLimit &&
    new TextDecoder("latin1").decode(program.subarray(-marker.length)) === marker;
}

/** Whether a file of this size can be a stub, so that nobody reads 90 MB to find out. */
export function canBeDelStub(size: number): boolean {
  return size <= sizeLimit;
}

function bytesOfHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

function textBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
