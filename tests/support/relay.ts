/** A TCP relay in front of a server: what goes through it can be cut off, as by a broken network. */

/** A running relay; dispose of it to stop it. */
export class Relay implements Disposable {
  readonly port: number;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.Conn>();
  #silent = false;

  /** @param target Port on 127.0.0.1 that is relayed to. */
  constructor(private readonly target: number) {
    this.port = this.#listener.addr.port;
    void this.#accept();
  }

  /** Nothing gets through any more, and nobody is told: connections stay open. */
  cut(): void {
    this.#silent = true;
  }

  /** Ends what was cut off; new connections get through again. */
  restore(): void {
    this.#silent = false;
    this.#closeAll();
  }

  [Symbol.dispose](): void {
    try {
      this.#listener.close();
    } catch {
      // Closed before.
    }
    this.#closeAll();
  }

  #closeAll(): void {
    for (const connection of this.#open) {
      try {
        connection.close();
      } catch {
        // Closed by the other side already.
      }
    }
    this.#open.clear();
  }

  async #accept(): Promise<void> {
    try {
      for await (const client of this.#listener) {
        this.#open.add(client);
        void this.#serve(client);
      }
    } catch {
      // The listener was closed.
    }
  }

  async #serve(client: Deno.Conn): Promise<void> {
    try {
      const server = await Deno.connect({ hostname: "127.0.0.1", port: this.target });
      this.#open.add(server);
      void this.#pump(client, server);
      await this.#pump(server, client);
    } catch {
      client.close();
    }
  }

  async #pump(from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (;;) {
        const count = await from.read(buffer);
        if (count === null) break;
        // What comes while nothing gets through is lost for good, also when it is restored.
        if (this.#silent) continue;
        for (let at = 0; at < count;) at += await to.write(buffer.subarray(at, count));
      }
    } catch {
      // The other side, or the test, has closed it.
    }
    for (const connection of [from, to]) {
      this.#open.delete(connection);
      try {
        connection.close();
      } catch {
        // Closed already.
      }
    }
  }
}
