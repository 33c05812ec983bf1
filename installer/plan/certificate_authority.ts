/**
 * Whether a certificate authority's file holds certificates at all. The plugin's reader looks for the
 * marks of PEM; what stands between them would only fail when the first pod is looked up. Pure.
 *
 * Facts: RFC 7468 §5 (PEM), RFC 5280 §4.1 (a certificate is a SEQUENCE of a SEQUENCE, a SEQUENCE and
 * a BIT STRING), X.690 §8.1 (lengths).
 */

const SEQUENCE = 0x30;
const BIT_STRING = 0x03;

/** Returns what is wrong with the text, as the end of a sentence; `undefined` when nothing is. */
export function problemOfAuthority(pem: string): string | undefined {
  const begins = pem.match(/-----BEGIN CERTIFICATE-----/g)?.length ?? 0;
  if (begins === 0) return "it holds no certificate in PEM";
  const blocks = Array.from(
    pem.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----/g),
    ([, base64 = ""]) => base64,
  );
  if (blocks.length < begins) return "a certificate in it is cut off or garbled";
  const bad = blocks.findIndex((base64) => !isCertificate(base64));
  return bad < 0 ? undefined : `certificate ${bad + 1} of ${blocks.length} in it is garbled`;
}

function isCertificate(base64: string): boolean {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.fromBase64(base64.replace(/\s+/g, ""));
  } catch {
    return false;
  }
  const whole = elementAt(bytes, 0);
  if (whole?.tag !== SEQUENCE || whole.end !== bytes.length) return false;
  const tags: number[] = [];
  for (let at = whole.start; at < whole.end;) {
    const part = elementAt(bytes, at);
    if (part === undefined || part.end > whole.end) return false;
    tags.push(part.tag);
    at = part.end;
  }
  return tags.length === 3 && tags[0] === SEQUENCE && tags[1] === SEQUENCE &&
    tags[2] === BIT_STRING;
}

/** Tag of an element of DER, and where its content begins and ends. */
function elementAt(
  bytes: Uint8Array,
  at: number,
): { readonly tag: number; readonly start: number; readonly end: number } | undefined {
  const [tag, first] = [bytes[at], bytes[at + 1]];
  if (tag === undefined || first === undefined) return undefined;
  const count = first < 0x80 ? 0 : first & 0x7f;
  if (count > 3) return undefined;
  let length = count === 0 ? first : 0;
  for (let i = 0; i < count; i++) length = length * 256 + (bytes[at + 2 + i] ?? NaN);
  const start = at + 2 + count;
  const end = start + length;
  return end <= bytes.length ? { tag, start, end } : undefined;
}
