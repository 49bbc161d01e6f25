/**
 * Candidates as two `.npy`: item ids, int64 users x k, and scores, f32 users x k. Row i is user i of the job; places
 * without a hit hold -1 and NaN. A `.npy` holds no strings, so where item ids are strings their row numbers are written.
 * Scores come first, because the file of ids gets its name last.
 */
import { type Chunk, type Encoded, NO_USER, type OutputFormat } from './chunk.js';
import type { PackedIds } from './packed-ids.js';

export interface NpyOutputOptions {
  readonly users: number;
  readonly k: number;
  readonly items: PackedIds;
}

export class NpyOutput implements OutputFormat {
  constructor(private readonly options: NpyOutputOptions) {}

  begin(): Uint8Array[] {
    const { users, k } = this.options;
    return [npyHeader('<f4', users, k), npyHeader('<i8', users, k)];
  }

  encode({ users, k, counts, rows, scores }: Chunk): Encoded {
    const { integers } = this.options.items;
    const ids = new BigInt64Array(users * k).fill(-1n);
    const words = new Uint32Array(ids.buffer); // row numbers go in as words, without a BigInt each
    const values = new Float32Array(users * k).fill(Number.NaN);
    let hits = 0;
    for (let user = 0; user < users; user++) {
      const count = counts[user]!;
      if (count === NO_USER) continue;
      hits += count;
      const first = user * k;
      values.set(scores.subarray(first, first + count), first);
      for (let at = first; at < first + count; at++) {
        if (integers !== undefined) ids[at] = integers[rows[at]!]!;
        else {
          words[2 * at] = rows[at]!;
          words[2 * at + 1] = 0;
        }
      }
    }
    return { pieces: [[new Uint8Array(values.buffer)], [new Uint8Array(ids.buffer)]], hits, note: null };
  }

  end(): Uint8Array[][] {
    return [[], []];
  }
}

/** Version 1.0, data on a multiple of 64 bytes, as NumPy writes it. */
function npyHeader(descr: string, rows: number, columns: number): Uint8Array {
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const size = Math.ceil((10 + text.length + 1) / 64) * 64;
  const out = Buffer.alloc(size, ' ');
  out.write('\x93NUMPY\x01\x00', 'latin1');
  out.writeUInt16LE(size - 10, 8);
  out.write(text, 10, 'latin1');
  out[size - 1] = 10;
  return out;
}
