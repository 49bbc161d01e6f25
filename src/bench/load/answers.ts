/** What the generator reads in an answer while it counts: without parsing JSON, which would cost more than the request. */

const DEGRADED = Buffer.from('"degraded":[');
const GENERATION = Buffer.from('"generation":"');
const QUOTE = '"'.charCodeAt(0);
const END = ']'.charCodeAt(0);
/** In a body of many answers each is read, up to this many. */
const ANSWERS_MAX = 256;

/**
 * Reasons of degraded answers in a body of /retrieve or /retrieve/batch; empty for most. A quote inside a JSON string is
 * written `\"`, so neither key can be found inside an id or a text.
 */
export function degradedReasons(body: Buffer): readonly string[] {
  const reasons: string[] = [];
  let at = body.indexOf(DEGRADED);
  for (let seen = 0; at >= 0 && seen < ANSWERS_MAX; seen++) {
    const from = at + DEGRADED.length;
    if (body[from] !== END) {
      const to = body.indexOf(END, from);
      if (to < 0) break;
      for (const word of body.toString('utf8', from, to).split(',')) reasons.push(word.replaceAll('"', '').trim());
    }
    at = body.indexOf(DEGRADED, from);
  }
  return reasons;
}

/** The generation that answered; undefined where the body names none. */
export function generationOf(body: Buffer): string | undefined {
  const at = body.indexOf(GENERATION);
  if (at < 0) return undefined;
  const from = at + GENERATION.length;
  const to = body.indexOf(QUOTE, from);
  return to < 0 ? undefined : body.toString('latin1', from, to);
}

/** The code of an error answer, else its status: `BELFRY_OVERLOADED`, `http_502`. */
export function errorCodeOf(status: number, body: Buffer): string {
  const code = /"code":"(BELFRY_[A-Z_]+)"/.exec(body.toString('latin1', 0, 512));
  return code?.[1] ?? `http_${status}`;
}
