// Data sets of the index bench by name: glove, sample, two-tower-<rows>-d<dims>, or a pair of files that the user names.
// Every engine gets the same f32 files; for cosine their rows have unit length.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dataFolder, ensureGlove } from '../datasets/glove.mjs';
import { npyHeader, readNpy, writeRows } from '../datasets/npy.mjs';
import { ensureTwoTower, parseTwoTower } from '../datasets/two-tower.mjs';

const sampleFolder = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'embeddings', 'sample', 'embeddings');

async function hashOf(...paths) {
  const hash = createHash('sha256');
  for (const path of paths)
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 22 })) hash.update(chunk);
  return hash.digest('hex');
}

function files(settings) {
  if (settings.pair) return { name: settings.pair.items, users: null, ...settings.pair };
  const name = settings.dataset;
  if (name === 'glove') {
    const { base, queries } = ensureGlove();
    return { name, items: base, queries, users: null, metric: 'cosine' };
  }
  if (name === 'sample') {
    const described = JSON.parse(readFileSync(join(sampleFolder, 'export.json'), 'utf8'));
    const [items, users] = ['item_embeddings.npy', 'user_embeddings.npy'].map((file) => join(sampleFolder, file));
    return { name, items, queries: users, users: null, metric: described.metric };
  }
  const size = parseTwoTower(name);
  if (size === undefined) {
    throw new Error(`--dataset: no data set '${name}'; there are glove, sample, and names such as two-tower-1m-d128`);
  }
  return { name, metric: 'ip', ...ensureTwoTower(join(dataFolder, name), size) };
}

/** A copy of the matrix as f32, with rows of unit length if `unit`. */
function copyRows(path, out, unit) {
  if (existsSync(out)) return out;
  const { rows, dims } = npyHeader(path);
  const values = readNpy(path);
  writeRows(out, rows, dims, (row, target) => {
    target.set(values.subarray(row * dims, (row + 1) * dims));
    if (!unit) return;
    let squares = 0;
    for (let d = 0; d < dims; d++) squares += target[d] ** 2;
    if (squares === 0) throw new Error(`${path}: row ${row} is zero and has no direction`);
    for (let d = 0; d < dims; d++) target[d] /= Math.sqrt(squares);
  });
  return out;
}

/**
 * @returns {Promise<{ name: string, metric: string, items: string, queries: string, users: string | null, rows: number,
 *   dims: number, hash: string, folder: string }>} paths of f32 files, and a folder for what is derived from them
 */
export async function openDataset(settings) {
  const found = files(settings);
  const { rows, dims } = npyHeader(found.items);
  const queries = npyHeader(found.queries);
  if (queries.dims !== dims) throw new Error(`${found.queries} has ${queries.dims} dims, ${found.items} has ${dims}`);
  const hash = await hashOf(found.items, found.queries);
  const folder = join(dataFolder, 'cache', hash.slice(0, 16));
  mkdirSync(folder, { recursive: true });
  const unit = found.metric === 'cosine' && found.name !== 'glove'; // whose rows are of unit length already
  for (const kind of ['items', 'queries']) {
    if (unit || npyHeader(found[kind]).dtype !== '<f4')
      found[kind] = copyRows(found[kind], join(folder, `${kind}.npy`), unit);
  }
  return { ...found, users: found.users ?? null, rows, dims, hash, folder, queryRows: queries.rows };
}
