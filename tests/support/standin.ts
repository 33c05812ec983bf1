/**
 * One process of the traffic bed: plays an application, a sidecar or a remote host. Started in its
 * network namespace as root with a {@linkcode StandinConfig} as JSON in its first argument; becomes
 * its user before it makes any socket, since netfilter matches the creator of a socket.
 *
 * Servers send one JSON line per connection ({@linkcode Greeting}); DNS servers answer every query
 * with a text that names them. Commands come as JSON lines on standard input
 * ({@linkcode StandinCommand}), and each gets one JSON line ({@linkcode StandinReply}). It ends with
 * its standard input, so it cannot outlive the test that started it.
 */
import { messageOf } from "../../src/text/message_of.ts";
import {
  bindUdp,
  createTcpSocket,
  type Endpoint,
  formatEndpoint,
  listenTcp,
  parseEndpoint,
  startTcpConnect,
  type TcpListener,
  type TcpSocket,
  type UdpSocket,
} from "./sockets.ts";
import { buildAnswer, buildQuery, readAnswer } from "./dns.ts";
import { Reactor, type Task } from "./reactor.ts";

/** What a stand-in is. Endpoints are written `10.0.0.1:80` or `[fd00::1]:80`. */
export interface StandinConfig {
  /** Told in every greeting and DNS answer. */
  readonly name: string;
  /** User and group to become; absent stays root. */
  readonly uid?: number;
  /** Ports on all addresses of both families that send a greeting. */
  readonly tcp: readonly number[];
  /** Endpoints that answer DNS, over UDP and TCP. */
  readonly dns: readonly string[];
  /**
   * Connections to this port are passed on to their original destination from 127.0.0.6 or ::6, as
   * Envoy's inbound passthrough does; the greeting tells what answered there.
   */
  readonly passthroughPort?: number;
}

/** What a server says to each connection. */
export interface Greeting {
  readonly server: string;
  readonly port: number;
  /** Address of the client as the server sees it. */
  readonly client: string;
  /** Original destination, `null` when connection tracking does not know the connection. */
  readonly original: string | null;
  /** For passed-on connections: the greeting of the destination, or why there is none. */
  readonly via: Greeting | string | null;
}

/** Asks a stand-in to be a client. */
export type StandinCommand =
  | { readonly id: number; readonly connect: string; readonly timeoutMs: number }
  | {
    readonly id: number;
    readonly resolve: string;
    readonly transport: "udp" | "tcp";
    readonly timeoutMs: number;
  };

/** The result of a command: a greeting or a DNS answer's text, or an error code. */
export type StandinReply =
  | { readonly id: number; readonly greeting: Greeting }
  | { readonly id: number; readonly answer: string }
  | { readonly id: number; readonly error: string };

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const PASSTHROUGH_TIMEOUT_MS = 3000;

/** The errno name of an error, or its message. */
function codeOf(error: unknown): string {
  if (error instanceof Error && "code" in error && typeof error.code === "string") {
    return error.code;
  }
  return messageOf(error);
}

/** Connects and reads to the end of the stream; tells `onEnd` the text or an error. */
function* converse(
  to: Endpoint,
  options: { source?: Endpoint; send?: Uint8Array<ArrayBuffer>; timeoutMs: number },
  onEnd: (result: { data: Uint8Array<ArrayBuffer> } | { error: string }) => void,
): Task {
  let socket: TcpSocket | undefined;
  try {
    socket = createTcpSocket(to.address, options.source);
    startTcpConnect(socket, to);
    if (!(yield { fd: socket.fd, write: true, timeoutMs: options.timeoutMs })) {
      return onEnd({ error: "timeout" });
    }
    socket.finishConnect();
    if (options.send !== undefined) socket.send(options.send);
    let data = new Uint8Array();
    for (;;) {
      if (!(yield { fd: socket.fd, timeoutMs: options.timeoutMs })) {
        return onEnd({ error: "timeout" });
      }
      const more = socket.receive();
      if (more === undefined) continue;
      if (more.length === 0) return onEnd({ data });
      data = new Uint8Array([...data, ...more]);
    }
  } catch (error) {
    onEnd({ error: codeOf(error) });
  } finally {
    socket?.close();
  }
}

function greetingOf(
  result: { data: Uint8Array<ArrayBuffer> } | { error: string },
): Greeting | string {
  if ("error" in result) return result.error;
  const text = decoder.decode(result.data);
  return text === "" ? "closed without a greeting" : JSON.parse(text);
}

function* serveTcp(reactor: Reactor, config: StandinConfig, listener: TcpListener): Task {
  const port = listener.local.port;
  for (;;) {
    yield { fd: listener.fd };
    for (let c = listener.accept(); c !== undefined; c = listener.accept()) {
      const connection = c;
      const greet = (via: Greeting | string | null): void => {
        const original = connection.originalDestination();
        const greeting: Greeting = {
          server: config.name,
          port,
          client: connection.remote.address,
          original: original === undefined ? null : formatEndpoint(original),
          via,
        };
        connection.send(encoder.encode(JSON.stringify(greeting) + "\n"));
        connection.close();
      };
      try {
        const to = connection.originalDestination();
        if (port !== config.passthroughPort || to === undefined || to.port === port) greet(null);
        else {
          const address = to.address.includes(":") ? "::6" : "127.0.0.6";
          const source = { address, port: 0 };
          reactor.start(converse(to, { source, timeoutMs: PASSTHROUGH_TIMEOUT_MS }, (result) => {
            greet(greetingOf(result));
          }));
        }
      } catch {
        connection.close(); // The client has gone; that is its affair.
      }
    }
  }
}

function dnsText(config: StandinConfig, transport: string, at: Endpoint, client: string): string {
  return `${config.name} ${transport} ${at.port} for ${client}`;
}

function* serveDnsUdp(config: StandinConfig, socket: UdpSocket, at: Endpoint): Task {
  for (;;) {
    yield { fd: socket.fd };
    const query = socket.receive();
    if (query === undefined) continue;
    const text = dnsText(config, "udp", at, query.from.address);
    socket.send(buildAnswer(query.data, text), query.from);
  }
}

function* answerDnsTcp(config: StandinConfig, connection: TcpSocket, at: Endpoint): Task {
  try {
    if (!(yield { fd: connection.fd, timeoutMs: PASSTHROUGH_TIMEOUT_MS })) return;
    const query = connection.receive();
    if (query === undefined || query.length < 2) return;
    const text = dnsText(config, "tcp", at, connection.remote.address);
    const answer = buildAnswer(query.subarray(2), text);
    connection.send(new Uint8Array([answer.length >> 8, answer.length & 255, ...answer]));
  } finally {
    connection.close();
  }
}

function* serveDnsTcp(
  reactor: Reactor,
  config: StandinConfig,
  listener: TcpListener,
  at: Endpoint,
): Task {
  for (;;) {
    yield { fd: listener.fd };
    for (let c = listener.accept(); c !== undefined; c = listener.accept()) {
      reactor.start(answerDnsTcp(config, c, at));
    }
  }
}

function* resolveUdp(
  to: Endpoint,
  query: Uint8Array<ArrayBuffer>,
  timeoutMs: number,
  onEnd: (result: { data: Uint8Array<ArrayBuffer> } | { error: string }) => void,
): Task {
  let socket: UdpSocket | undefined;
  try {
    socket = bindUdp({ address: to.address.includes(":") ? "::" : "0.0.0.0", port: 0 });
    // A connected socket takes an answer only from the address that was asked.
    socket.connect(to);
    socket.send(query);
    if (!(yield { fd: socket.fd, timeoutMs })) return onEnd({ error: "timeout" });
    const answer = socket.receive();
    onEnd(answer === undefined ? { error: "timeout" } : { data: answer.data });
  } catch (error) {
    onEnd({ error: codeOf(error) });
  } finally {
    socket?.close();
  }
}

function obey(reactor: Reactor, command: StandinCommand): void {
  const { id, timeoutMs } = command;
  const reply = (result: StandinReply): void => console.log(JSON.stringify(result));
  if ("connect" in command) {
    reactor.start(converse(parseEndpoint(command.connect), { timeoutMs }, (result) => {
      const greeting = greetingOf(result);
      reply(typeof greeting === "string" ? { id, error: greeting } : { id, greeting });
    }));
    return;
  }
  const query = buildQuery(id, "web.mesh");
  const to = parseEndpoint(command.resolve);
  const onEnd = (result: { data: Uint8Array<ArrayBuffer> } | { error: string }): void => {
    if ("error" in result) return reply({ id, error: result.error });
    const data = command.transport === "tcp" ? result.data.subarray(2) : result.data;
    const answer = readAnswer(data);
    reply(
      answer.id === id ? { id, answer: answer.text } : { id, error: "answer to another query" },
    );
  };
  if (command.transport === "udp") reactor.start(resolveUdp(to, query, timeoutMs, onEnd));
  else {
    const send = new Uint8Array([query.length >> 8, query.length & 255, ...query]);
    reactor.start(converse(to, { send, timeoutMs }, onEnd));
  }
}

function* readCommands(reactor: Reactor): Task {
  let text = "";
  const buffer = new Uint8Array(65536);
  for (;;) {
    yield { fd: 0 };
    const got = Deno.stdin.readSync(buffer);
    if (got === null) return reactor.stop();
    text += decoder.decode(buffer.subarray(0, got), { stream: true });
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      obey(reactor, JSON.parse(text.slice(0, end)));
      text = text.slice(end + 1);
    }
  }
}

/** Gives up root for good, on every thread of the process. */
function becomeUser(uid: number): void {
  const { symbols } = Deno.dlopen("libc.so.6", {
    setgroups: { parameters: ["usize", "pointer"], result: "i32" },
    setresgid: { parameters: ["u32", "u32", "u32"], result: "i32" },
    setresuid: { parameters: ["u32", "u32", "u32"], result: "i32" },
    getuid: { parameters: [], result: "u32" },
  });
  symbols.setgroups(0n, null);
  symbols.setresgid(uid, uid, uid);
  symbols.setresuid(uid, uid, uid);
  if (symbols.getuid() !== uid) throw new Error(`Cannot become user ${uid}`);
}

function main(config: StandinConfig): void {
  if (config.uid !== undefined) becomeUser(config.uid);
  const reactor = new Reactor();
  for (const port of config.tcp) {
    for (const address of ["0.0.0.0", "::"]) {
      reactor.start(serveTcp(reactor, config, listenTcp({ address, port })));
    }
  }
  for (const text of config.dns) {
    const at = parseEndpoint(text);
    reactor.start(serveDnsUdp(config, bindUdp(at), at));
    reactor.start(serveDnsTcp(reactor, config, listenTcp(at), at));
  }
  reactor.start(readCommands(reactor));
  console.log(JSON.stringify({ up: config.name }));
  reactor.run();
}

if (import.meta.main) main(JSON.parse(Deno.args[0] ?? "{}"));
