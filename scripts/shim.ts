/**
 * Compiles the shim (`src/shim/shim.c`). The product is complete without it: where no compiler is
 * there, the build says so and the full plugin is installed as `kuma-cni`.
 */
import {
  programHeaderSize,
  readElfHeader,
  readerOf,
  readProgramHeaders,
} from "../installer/host/elf_header.ts";
import { BuildError, root } from "./deno_tools.ts";

/** Types and a flag of program headers: System V ABI, "Program Loading"; elf.h. */
const PT_NULL = 0;
const PT_DYNAMIC = 2;
const PT_GNU_RELRO = 0x6474e552;
const PF_R = 4;

/** Architectures of the shim, as Deno names them. */
export type ShimArchitecture = "x86_64" | "aarch64";

/** Name of the compiled shim beside the plugin. */
export const shimName = "kuma-cni.shim";

/** Files that it is made of, relative to the project. */
export const shimSources = ["src/shim/shim.c", "src/shim/shim.ld"];

/** Largest shim that a release may have. */
export const shimSizeLimit = 16 * 1024;

/**
 * How it is compiled: for size, and so that the compiler neither expects a C library nor puts in
 * anything that differs between two builds.
 */
const flags = [
  "-std=c11",
  "-Os",
  "-ffreestanding",
  "-fno-builtin",
  "-fno-stack-protector",
  "-fno-jump-tables",
  "-fno-asynchronous-unwind-tables",
  "-fno-unwind-tables",
  "-fno-ident",
  "-fPIE",
  "-nostdlib",
  "-static-pie",
  "-Wl,-z,relro,-z,now,-z,noexecstack,--build-id=none,-T,src/shim/shim.ld",
  "-s",
];

/** Which compiler to try, in this order. */
function compilers(architecture: ShimArchitecture): (readonly string[])[] {
  const named = Deno.env.get("CC");
  const first = named ? [named.split(" ").filter((word) => word !== "")] : [];
  if (architecture !== Deno.build.arch) return [...first, [`${architecture}-linux-gnu-gcc`]];
  return named ? first : [["cc"], ["gcc"], ["clang"]];
}

/**
 * Compiles the shim.
 *
 * @param architecture What it is to run on.
 * @param output Path of the program.
 * @param say Takes lines for people.
 * @returns Whether there is one; if not, the line that is said tells what is missing.
 * @throws {BuildError} when a compiler is there and fails, or makes more than a shim may have.
 */
export async function compileShim(
  architecture: ShimArchitecture,
  output: string,
  say: (line: string) => void,
): Promise<boolean> {
  const tried: string[] = [];
  for (const [program, ...leading] of compilers(architecture)) {
    const result = await compile(program!, [...leading, ...flags], output);
    if (result === "missing") {
      tried.push(program!);
      continue;
    }
    if (result !== "done") throw new BuildError(`Cannot compile the shim: ${program}: ${result}`);
    const shim = await Deno.readFile(output);
    const { machine } = readElfHeader(readerOf(shim));
    if (machine !== architecture) {
      // CC may be about the machine's own architecture while several are built.
      tried.push(`${program} makes programs for ${machine}`);
      await Deno.remove(output);
      continue;
    }
    declareReadOnly(shim);
    await Deno.writeFile(output, shim);
    if (shim.length > shimSizeLimit) {
      throw new BuildError(
        `The shim has ${shim.length} bytes, at most ${shimSizeLimit} are allowed`,
      );
    }
    return true;
  }
  say(
    `No C compiler for ${architecture} (${
      tried.join(", ")
    }; CC names another): built without the ` +
      "shim, so each call starts the full plugin",
  );
  return false;
}

/** Turns the empty program header of `shim.ld` into one that says what is read-only (RELRO). */
function declareReadOnly(shim: Uint8Array): void {
  const headers = readProgramHeaders(readerOf(shim));
  const index = headers.findIndex(({ type }) => type === PT_NULL);
  const fixed = headers.find(({ type }) => type === PT_DYNAMIC);
  if (index < 0 || fixed === undefined) {
    throw new BuildError("Cannot finish the shim: the linker has not followed src/shim/shim.ld");
  }
  const { programHeadersAt } = readElfHeader(readerOf(shim));
  const view = new DataView(shim.buffer, programHeadersAt + index * programHeaderSize);
  view.setUint32(0, PT_GNU_RELRO, true);
  view.setUint32(4, PF_R, true);
  const { offset, vaddr, filesz } = fixed;
  [offset, vaddr, vaddr, filesz, filesz, 1].forEach((value, i) =>
    view.setBigUint64(8 + 8 * i, BigInt(value), true)
  );
}

async function compile(
  program: string,
  options: readonly string[],
  output: string,
): Promise<"done" | "missing" | string> {
  try {
    const { success, stderr } = await new Deno.Command(program, {
      args: [...options, "-o", output, "src/shim/shim.c"],
      cwd: root,
      stdin: "null",
      stdout: "null",
    }).output();
    return success ? "done" : new TextDecoder().decode(stderr).trim() || "it failed without a word";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "missing";
    throw error;
  }
}
