/**
 * Waiting for many descriptors at once, on a thread of the runtime's own, so that the program does
 * other things meanwhile. Facts: epoll(7), eventfd(2), `linux/eventpoll.h`. Needs `--allow-ffi`.
 */
import { EINTR, LinuxError } from "./errno.ts";
import { checked, FileDescriptor, lastErrno, libc, loadFunctions } from "./libc.ts";

const symbols = {
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
} as const;

/** Waits on a worker thread; whatever else is asked of the runtime goes on. */
const waiting = {
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32", nonblocking: true },
} as const;

type Calls =
  & Deno.DynamicLibrary<typeof symbols>["symbols"]
  & Deno.DynamicLibrary<typeof waiting>["symbols"];

let library: Calls | undefined;

function calls(): Calls {
  return library ??= { ...loadFunctions(symbols), ...loadFunctions(waiting) };
}

const EPOLL_CLOEXEC = 0o2000000;
const EFD_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000;
const EPOLL_CTL = { add: 1, remove: 2, change: 3 } as const;
const EPOLLIN = 1;
const EPOLLOUT = 4;
const EPOLLERR = 8;
const EPOLLHUP = 0x10;
/** `struct epoll_event` is packed on x86-64 only. */
const [EVENT_BYTES, DATA_AT] = Deno.build.arch === "x86_64" ? [12, 4] : [16, 8];
/** Most events of one wait; the rest comes with the next. */
const EVENTS = 64;

/** What a descriptor is waited for; an end that is gone is told of in any case. */
export type Interest = "input" | "output" | "end";

/** What happened to a descriptor. */
export interface PollEvent {
  readonly descriptor: number;
  /** Whether its other end is gone, so that nothing can be sent any more. */
  readonly ended: boolean;
}

/** A set of descriptors that are waited for. */
export class EventPoll implements Disposable {
  readonly #files = new DisposableStack();
  readonly #poll: FileDescriptor;
  readonly #alarm: FileDescriptor;
  // In memory that nothing else refers to, for as long as a thread may write there.
  readonly #events = new Uint8Array(EVENTS * EVENT_BYTES);
  #closed = false;
  #isWaiting = false;

  /** @throws {LinuxError} when the kernel refuses. */
  constructor() {
    using cleanup = new DisposableStack();
    const open = (make: () => number) =>
      cleanup.use(new FileDescriptor(checked("Cannot wait for connections", make)));
    this.#poll = open(() => calls().epoll_create1(EPOLL_CLOEXEC));
    this.#alarm = open(() => calls().eventfd(0, EFD_CLOEXEC_NONBLOCK));
    this.add(this.#alarm.number, "input");
    this.#files.use(cleanup.move());
  }

  /** Waits for a descriptor, too. */
  add(descriptor: number, interest: Interest): void {
    this.#control(EPOLL_CTL.add, descriptor, interest);
  }

  /** Waits for something else of a descriptor. */
  change(descriptor: number, interest: Interest): void {
    this.#control(EPOLL_CTL.change, descriptor, interest);
  }

  /** Waits no longer for a descriptor. */
  remove(descriptor: number): void {
    this.#control(EPOLL_CTL.remove, descriptor, "end");
  }

  /**
   * Waits until something has happened.
   *
   * @returns What, or nothing at all after {@linkcode close}.
   */
  async wait(): Promise<PollEvent[]> {
    if (this.#closed) return [];
    this.#isWaiting = true;
    let count: number;
    try {
      count = await calls().epoll_wait(this.#poll.number, this.#events, EVENTS, -1);
    } finally {
      this.#isWaiting = false;
      if (this.#closed) this.#files.dispose();
    }
    if (this.#closed) return [];
    if (count === -1) {
      // Most likely a signal; the error number is that of another thread. It must not become a loop.
      await new Promise((resolve) => setTimeout(resolve, 50));
      return [];
    }
    const view = new DataView(this.#events.buffer);
    return Array.from({ length: count }, (_, i) => ({
      descriptor: view.getInt32(i * EVENT_BYTES + DATA_AT, true),
      ended: (view.getUint32(i * EVENT_BYTES, true) & (EPOLLERR | EPOLLHUP)) !== 0,
    }));
  }

  /** Ends a wait that goes on, and all later ones. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#isWaiting) return this.#files.dispose();
    const one = new Uint8Array(new BigUint64Array([1n]).buffer);
    libc().write(this.#alarm.number, one, 8n);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #control(operation: number, descriptor: number, interest: Interest): void {
    const event = new Uint8Array(EVENT_BYTES);
    const view = new DataView(event.buffer);
    view.setUint32(0, interest === "input" ? EPOLLIN : interest === "output" ? EPOLLOUT : 0, true);
    view.setInt32(DATA_AT, descriptor, true);
    while (calls().epoll_ctl(this.#poll.number, operation, descriptor, event) === -1) {
      const errno = lastErrno();
      if (errno !== EINTR) {
        throw new LinuxError(`Cannot wait for descriptor ${descriptor}`, errno);
      }
    }
  }
}
