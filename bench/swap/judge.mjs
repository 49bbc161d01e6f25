// Kept answers against brute force over the vectors of the generation that they name: a plain loop, none of our code.
import { readFileSync } from 'node:fs';

const K = 10;
const SCORE_TOLERANCE = 1e-5;

function readF32(path) {
  const bytes = readFileSync(path);
  const start = 10 + bytes.readUInt16LE(8);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length));
}

/**
 * @param {{ generation: string, user: number, items: [string, number][] }[]} kept
 * @param {Record<string, { side: string, items: string, users: string }>} sides
 * @returns {{ judged: number, wrong: number, recall: number }} `wrong`: an item of another generation, or a score that is not the item's
 */
export function judge(kept, sides, { dims, limit }) {
  const step = Math.max(1, Math.floor(kept.length / limit));
  const chosen = kept.filter((_, at) => at % step === 0);
  let wrong = 0;
  let found = 0;
  const vectors = new Map();
  for (const { generation, user, items } of chosen) {
    const named = sides[generation];
    if (named === undefined) {
      wrong++;
      continue;
    }
    if (!vectors.has(generation)) vectors.set(generation, { items: readF32(named.items), users: readF32(named.users) });
    const { items: matrix, users } = vectors.get(generation);
    const scores = new Float64Array(matrix.length / dims);
    for (let row = 0; row < scores.length; row++) {
      let sum = 0;
      for (let i = 0; i < dims; i++) sum += matrix[row * dims + i] * users[user * dims + i];
      scores[row] = sum;
    }
    const bar = Float64Array.from(scores).sort()[scores.length - K];
    let isRight = true;
    for (const [id, score] of items) {
      const truth = id.startsWith(`${named.side}-`) ? scores[Number(id.slice(2))] : Number.NaN;
      if (!(Math.abs(truth - score) <= SCORE_TOLERANCE * Math.max(1, Math.abs(truth)))) isRight = false;
      if (truth >= bar) found++;
    }
    if (!isRight) wrong++;
  }
  return { judged: chosen.length, wrong, recall: found / (K * chosen.length) };
}
