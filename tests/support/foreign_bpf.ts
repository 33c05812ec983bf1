/** Another program's eBPF program at a cgroup, as a service mesh or a load balancer attaches one. */
import { attachToCgroup, detachFromCgroup, loadBpfProgram } from "../../src/linux/bpf.ts";
import { checked, openForReading } from "../../src/linux/libc.ts";
import { Assembler } from "../../src/engine/ebpf/assembler.ts";

const PLACES = {
  connect4: { name: "foreign_connect", type: 18, attachType: 10 },
  getsockopt: { name: "foreign_getsock", type: 25, attachType: 21 },
};

/** Where it is attached. */
export type ForeignPlace = keyof typeof PLACES;
const BPF_PROG_ATTACH = 8;
const ATTRIBUTE_BYTES = 128;

const libc = Deno.dlopen("libc.so.6", {
  syscall: { parameters: ["isize", "i32", "buffer", "u32"], result: "isize" },
}).symbols;

function attach(
  path: string,
  place: ForeignPlace,
  how: (
    cgroup: ReturnType<typeof openForReading>,
    program: ReturnType<typeof loadBpfProgram>,
  ) => void,
): Disposable {
  using stack = new DisposableStack();
  const cgroup = stack.use(openForReading(path));
  const instructions = new Assembler().exit(1).assemble(new Map());
  const program = stack.use(loadBpfProgram({ ...PLACES[place], instructions }));
  how(cgroup, program);
  const kept = stack.move();
  return {
    [Symbol.dispose]() {
      detachFromCgroup(cgroup, program, PLACES[place].attachType);
      kept.dispose();
    },
  };
}

/** Attaches one that allows others. */
export function attachBeside(path: string, place: ForeignPlace): Disposable {
  const { attachType } = PLACES[place];
  return attach(path, place, (cgroup, program) => attachToCgroup(cgroup, program, attachType));
}

/** Attaches one that allows none below. */
export function attachAlone(path: string, place: ForeignPlace): Disposable {
  return attach(path, place, (cgroup, program) => {
    const attributes = new Uint8Array(ATTRIBUTE_BYTES);
    const words = [cgroup.number, program.number, PLACES[place].attachType];
    new Uint32Array(attributes.buffer).set(words);
    const number = Deno.build.arch === "x86_64" ? 321n : 280n;
    checked(
      "Cannot attach a program alone",
      () => Number(libc.syscall(number, BPF_PROG_ATTACH, attributes, ATTRIBUTE_BYTES)),
    );
  });
}
