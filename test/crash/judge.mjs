/** What must be true of a data folder, by code that shares nothing with Belfry: formats read by hand, brute force, SHA-256. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const DIMS = 8;
const QUERIES = 4;
const TOP = 1000;

/** mulberry32. */
export function seeded(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomVector(random, dims) {
  return Float32Array.from({ length: dims }, () => random() * 2 - 1);
}

export function queries() {
  const random = seeded(99);
  return Array.from({ length: QUERIES }, () => randomVector(random, DIMS));
}

/** A models folder of random items and users; what is upserted later is newer than it. */
export function writeExport(folder, items, seed) {
  const random = seeded(seed);
  const write = (name, count, prefix) => {
    const values = new Float32Array(count * DIMS).map(() => random() * 2 - 1);
    const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${count}, ${DIMS}), }`;
    const header = Buffer.from(`\x93NUMPY\x01\x00\x76\x00${text.padEnd(117)}\n`, 'latin1');
    writeFileSync(
      join(folder, 'embeddings', `${name}_embeddings.npy`),
      Buffer.concat([header, Buffer.from(values.buffer)]),
    );
    const ids = Array.from({ length: count }, (_, row) => `${prefix}-${row * 2}`);
    writeFileSync(join(folder, 'embeddings', `${name}_ids.txt`), `${ids.join('\n')}\n`);
  };
  mkdirSync(join(folder, 'embeddings'), { recursive: true });
  write('item', items, 'item');
  write('user', 20, 'user');
  writeFileSync(join(folder, 'embeddings', 'export.json'), '{"metric": "ip", "created": "2020-01-01T00:00:00Z"}');
}

function readItems(folder) {
  const bytes = readFileSync(join(folder, 'embeddings', 'item_embeddings.npy'));
  const start = 10 + bytes.readUInt16LE(8);
  const ids = readFileSync(join(folder, 'embeddings', 'item_ids.txt'), 'utf8')
    .trim()
    .split('\n');
  const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length));
  if (values.length !== ids.length * DIMS) throw new Error(`${folder}: ${values.length} values, ${ids.length} ids`);
  return new Map(ids.map((id, row) => [id, values.subarray(row * DIMS, (row + 1) * DIMS)]));
}

export function readPointer(data) {
  const [current, previous] = readFileSync(join(data, 'CURRENT'), 'utf8').trim().split('\n');
  return { current, previous };
}

export function readManifestOf(folder) {
  return JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')).manifest;
}

/** Why the files of a generation are not those of its manifest; undefined when they are. */
export function damageOf(folder) {
  const { files } = readManifestOf(folder);
  for (const [name, { bytes, sha256 }] of Object.entries(files)) {
    const content = readFileSync(join(folder, name));
    if (content.length !== bytes || createHash('sha256').update(content).digest('hex') !== sha256)
      return `${folder}: ${name} is not what its manifest says`;
  }
  return undefined;
}

/** Names in a data folder that nothing will ever use again. */
export function orphansOf(data) {
  const known = /^(CURRENT|gen-.+|quarantined-.+|upserts)$/;
  const inLog = /^(lock|items-\d+\.log)$/;
  const read = (folder) => {
    try {
      return readdirSync(folder);
    } catch (error) {
      if (error.code === 'ENOENT') return [];
      throw error;
    }
  };
  return [
    ...read(data).filter((name) => !known.test(name)),
    ...read(join(data, 'upserts')).filter((name) => !inLog.test(name)),
  ];
}

/**
 * Why the answers are not those of brute force over `items` with `changes` (id → vector, or null for deleted) laid over
 * them; undefined when they are.
 */
export function differenceOf(answers, exportFolder, changes) {
  const items = readItems(exportFolder);
  for (const [id, vector] of changes) {
    if (vector === null) items.delete(id);
    else items.set(id, vector);
  }
  for (const [at, query] of queries().entries()) {
    const scores = new Map();
    for (const [id, vector] of items) {
      let sum = 0;
      for (let d = 0; d < DIMS; d++) sum += query[d] * vector[d];
      scores.set(id, sum);
    }
    const expected = [...scores].sort(([, a], [, b]) => b - a).slice(0, TOP);
    const { items: found, degraded } = answers[at];
    if (degraded.length > 0) return `query ${at}: degraded: ${degraded.join(', ')}`;
    if (found.length !== expected.length) return `query ${at}: ${found.length} items, brute force ${expected.length}`;
    if (new Set(found.map(([id]) => id)).size !== found.length) return `query ${at}: an item stands there twice`;
    for (const [rank, [id, score]] of found.entries()) {
      const [, best] = expected[rank];
      if (!scores.has(id)) return `query ${at}: ${id} is no item`;
      if (Math.abs(scores.get(id) - score) > 1e-4 || Math.abs(best - score) > 1e-4)
        return `query ${at}, rank ${rank}: ${id} ${score}, brute force ${expected[rank].join(' ')}`;
    }
  }
  return undefined;
}
