/** Health, readiness and metrics over HTTP, for probes and Prometheus. */

/** What the endpoints report; read at each request, so that it is always the true state. */
export interface HealthSource {
  /** Whether pods that start now get their rules, with the reason in words for people. */
  readiness(): { readonly ready: boolean; readonly reason: string };
  /** Whether the process does its work at all; a dead loop must be restarted. */
  liveness(): { readonly alive: boolean; readonly reason: string };
  /** Metrics in Prometheus' text format. */
  metrics(): string;
}

/**
 * Serves `/healthz`, `/readyz` and `/metrics`.
 *
 * @param options.hostname Address to bind, for example `0.0.0.0` or `127.0.0.1`.
 * @param options.port TCP port, 1–65535.
 * @returns The server; call `shutdown()` at the end.
 * @throws {Deno.errors.AddrInUse} when the port is taken.
 */
export function serveHealth(
  options: { readonly hostname: string; readonly port: number },
  source: HealthSource,
): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({
    hostname: options.hostname,
    port: options.port,
    onListen: () => {},
    onError: () => new Response("Internal error\n", { status: 500 }),
  }, (request) => respond(request, source));
}

/** Answers one request; pure but for what the source reads. */
export function respond(request: Request, source: HealthSource): Response {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return new Response("Method not allowed\n", { status: 405, headers: { allow: "GET, HEAD" } });
  }
  switch (new URL(request.url).pathname) {
    case "/healthz": {
      const { alive, reason } = source.liveness();
      return new Response(`${reason}\n`, { status: alive ? 200 : 503 });
    }
    case "/readyz": {
      const { ready, reason } = source.readiness();
      return new Response(`${reason}\n`, { status: ready ? 200 : 503 });
    }
    case "/metrics":
      return new Response(source.metrics(), {
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      });
  }
  return new Response("Not found; try /healthz, /readyz or /metrics\n", { status: 404 });
}
