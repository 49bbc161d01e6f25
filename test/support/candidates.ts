/** Reads back what retrieve-all wrote, by code that is not ours: hyparquet, and the plain bytes of a `.npy`. */
import { readFileSync } from 'node:fs';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

export interface Candidate {
  readonly id: unknown;
  readonly score: number;
}

/** By user id, in the order of the file; ranks are checked on the way. */
export type Candidates = Map<unknown, Candidate[]>;

const plain = (id: unknown): unknown => (typeof id === 'bigint' ? Number(id) : id);

export async function readLong(path: string): Promise<Candidates> {
  const found: Candidates = new Map();
  for (const row of await rowsOf(path)) {
    const user = plain(row.user_id);
    const list = found.get(user) ?? [];
    found.set(user, list);
    list.push({ id: plain(row.item_id), score: row.score as number });
    if (row.rank !== list.length)
      throw new Error(`rank ${String(row.rank)} in place ${list.length} of ${String(user)}`);
  }
  return found;
}

export async function readLists(path: string): Promise<Candidates> {
  const found: Candidates = new Map();
  for (const row of await rowsOf(path)) {
    const scores = row.scores as number[];
    const ids = row.item_ids as unknown[];
    found.set(
      plain(row.user_id),
      ids.map((id, at) => ({ id: plain(id), score: scores[at]! })),
    );
  }
  return found;
}

async function rowsOf(path: string): Promise<Record<string, unknown>[]> {
  const file = await asyncBufferFromFile(path);
  return (await parquetReadObjects({ file, compressors })) as Record<string, unknown>[];
}

/** Rows of ids and scores; what is no hit is left out. */
export function readNpyPair(path: string): Candidate[][] {
  const ids = npyOf(path, '<i8');
  const scores = npyOf(path.replace(/\.npy$/, '.scores.npy'), '<f4');
  const [users, k] = ids.shape;
  if (String(scores.shape) !== String(ids.shape)) throw new Error(`shapes ${ids.shape} and ${scores.shape}`);
  const longs = new BigInt64Array(ids.data);
  const floats = new Float32Array(scores.data);
  return Array.from({ length: users! }, (_, user) => {
    const list: Candidate[] = [];
    for (let at = user * k!; at < (user + 1) * k!; at++) {
      if (longs[at] === -1n) {
        if (!Number.isNaN(floats[at])) throw new Error(`a score without an id in row ${user}`);
        continue;
      }
      if (list.length < at - user * k!) throw new Error(`a gap in row ${user}`);
      list.push({ id: Number(longs[at]), score: floats[at]! });
    }
    return list;
  });
}

function npyOf(path: string, descr: string): { shape: number[]; data: ArrayBuffer } {
  const bytes = readFileSync(path);
  const start = 10 + bytes.readUInt16LE(8);
  const header = bytes.toString('latin1', 10, start);
  if (start % 64 !== 0 || !header.includes(`'descr': '${descr}'`)) throw new Error(`${path}: ${header}`);
  const shape = /\((\d+), (\d+)\)/.exec(header)!.slice(1).map(Number);
  return { shape, data: bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length) as ArrayBuffer };
}
