/**
 * The program that follows TCP sockets of the pod: it carries a connection's original destination
 * from the client's end to the sidecar's, and keeps the sidecar's listeners at hand.
 */
import { Assembler, Helper, r0, r1, r2, r3, r4, r6, r7, r8, stack } from "./assembler.ts";
import {
  AF_INET,
  AF_INET6,
  Flight,
  LISTENER_SLOTS,
  MapName,
  Original,
  Role,
  SocketOperation,
  Stack,
} from "./layout.ts";
import { copyHalves, count, lookUp, putMapped, putWords, storage, unlessMapped } from "./parts.ts";

/** What a program is called for. */
const Operation = { connect: 3, passiveEstablished: 5, stateChange: 10, listen: 11 } as const;
const STATE_CHANGES = 4;
const TCP_CLOSE = 7;
const ONLY_NEW = 1;
const ANY = 0;

/** Ports that the rules send connections to. */
export interface SidecarPorts {
  /** All of them. */
  readonly redirected: readonly number[];
  /** The inbound listener of each family, where incoming connections are redirected. */
  readonly inbound4?: number | undefined;
  readonly inbound6?: number | undefined;
}

/** Writes the program. Its result is never asked for. */
export function socketProgram({ redirected, inbound4, inbound6 }: SidecarPorts): Assembler {
  const program = new Assembler().move(r6, r1).load("word", r1, r6, SocketOperation.operation)
    .jumpIf32(r1, "==", Operation.connect, "connect")
    .jumpIf32(r1, "==", Operation.passiveEstablished, "passive_established")
    .jumpIf32(r1, "==", Operation.stateChange, "state_change")
    .jumpIf32(r1, "==", Operation.listen, "listen").jump("done");

  program.label("connect").remark("the client's end sends its SYN")
    .load("double", r2, r6, SocketOperation.socket).jumpIf(r2, "==", 0, "done")
    .loadMap(r1, MapName.original);
  storage(program, false);
  program.jumpIf(r0, "==", 0, "done").move(r7, r0)
    .load("word", r1, r7, Original.role).jumpIf32(r1, "!=", Role.client, "done");
  putFlight(program, "client");
  program.loadMap(r1, MapName.inFlight).move(r2, stack).add(r2, Stack.flight).move(r3, r7)
    .move(r4, ANY).call(Helper.mapUpdate).jumpIf(r0, "!=", 0, "lost")
    .load("word", r2, r6, SocketOperation.callbackFlags).or32(r2, STATE_CHANGES).move(r1, r6)
    .call(Helper.sockOpsCallbackFlags).jump("done");

  program.label("state_change")
    .load("word", r1, r6, SocketOperation.secondArgument).jumpIf32(r1, "!=", TCP_CLOSE, "done")
    .remark("a connection that nobody took");
  putFlight(program, "client");
  deleteFlight(program);
  program.jump("done");

  program.label("passive_established").remark("the sidecar's end is there")
    .load("word", r7, r6, SocketOperation.localPort);
  for (const port of redirected) program.jumpIf32(r7, "==", port, "redirected");
  program.jump("done").label("redirected");
  putFlight(program, "server");
  lookUp(program, MapName.inFlight, Stack.flight);
  program.jumpIf(r0, "==", 0, "done").move(r8, r0)
    .load("double", r2, r6, SocketOperation.socket).jumpIf(r2, "==", 0, "done")
    .loadMap(r1, MapName.original);
  storage(program, true);
  program.jumpIf(r0, "==", 0, "lost");
  copyHalves(program, [r0, Original.address], [r8, Original.address]);
  program.load("word", r1, r8, Original.port).store("word", r0, Original.port, r1)
    .store("word", r0, Original.role, Role.server);
  deleteFlight(program);
  program.jump("done");

  program.label("listen").load("word", r1, r6, SocketOperation.family)
    .load("word", r2, r6, SocketOperation.localPort).jumpIf32(r1, "==", AF_INET, "listen4")
    .jumpIf32(r1, "!=", AF_INET6, "done");
  keepListener(program, inbound6, LISTENER_SLOTS);
  program.label("listen4");
  keepListener(program, inbound4, 0);

  program.label("lost");
  if (program.reachable) count(program, "lost");
  return program.label("done").exit(1);
}

/** Writes the key of a connection as its client sees it. */
function putFlight(program: Assembler, end: "client" | "server"): void {
  const [own, other] = end === "client"
    ? [Flight.localAddress, Flight.remoteAddress]
    : [Flight.remoteAddress, Flight.localAddress];
  const [ownPort, otherPort] = end === "client"
    ? [Flight.localPort, Flight.remotePort]
    : [Flight.remotePort, Flight.localPort];
  const six = program.freshLabel("six");
  const four = program.freshLabel("four");
  const ports = program.freshLabel("ports");
  program.load("word", r1, r6, SocketOperation.family).jumpIf32(r1, "==", AF_INET, four);
  // An IPv6 socket may speak IPv4, while the other end is an IPv4 socket.
  unlessMapped(program, r6, SocketOperation.remoteIp6, six);
  program.label(four).load("word", r1, r6, SocketOperation.localIp4);
  putMapped(program, Stack.flight + own, r1);
  program.load("word", r1, r6, SocketOperation.remoteIp4);
  putMapped(program, Stack.flight + other, r1);
  program.jump(ports).label(six);
  putWords(program, Stack.flight + own, r6, SocketOperation.localIp6);
  putWords(program, Stack.flight + other, r6, SocketOperation.remoteIp6);
  program.label(ports).load("word", r1, r6, SocketOperation.localPort)
    .store("word", stack, Stack.flight + ownPort, r1)
    .load("word", r1, r6, SocketOperation.remotePort).shiftRight32(r1, 16).swapPort(r1)
    .store("word", stack, Stack.flight + otherPort, r1);
}

function deleteFlight(program: Assembler): void {
  program.loadMap(r1, MapName.inFlight).move(r2, stack).add(r2, Stack.flight)
    .call(Helper.mapDelete);
}

/** Keeps a listener of a port, which r2 has, in the first free slot of its family. */
function keepListener(program: Assembler, port: number | undefined, first: number): void {
  if (port === undefined) return void program.jump("done");
  program.jumpIf32(r2, "!=", port, "done");
  for (let slot = first; slot < first + LISTENER_SLOTS; slot++) {
    program.store("word", stack, Stack.key, slot).move(r1, r6).loadMap(r2, MapName.listeners)
      .move(r3, stack).add(r3, Stack.key).move(r4, ONLY_NEW).call(Helper.sockMapUpdate)
      .jumpIf(r0, "==", 0, "done");
  }
  program.jump("done");
}
