/** Asks an API server questions and keeps what came, byte for byte. */

/** What to ask, and whom. */
export interface Questions {
  readonly server: string;
  readonly certificateAuthority: string;
  /** Path with query, and the bearer token to show, if any. */
  readonly requests: readonly { readonly path: string; readonly token?: string }[];
}

/** What came. */
export interface RawAnswer {
  readonly status: number;
  readonly contentType: string | null;
  readonly body: string;
}

/** Asks all at once. */
export async function ask(questions: Questions): Promise<RawAnswer[]> {
  using client = Deno.createHttpClient({ caCerts: [questions.certificateAuthority] });
  return await Promise.all(questions.requests.map(async ({ path, token }) => {
    const headers = { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) };
    const response = await fetch(questions.server + path, { client, headers });
    return {
      status: response.status,
      contentType: response.headers.get("content-type"),
      body: await response.text(),
    };
  }));
}
