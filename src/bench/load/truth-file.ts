/**
 * True answers that somebody else has computed: a `.npy` of integers, a line for each user (or line of the mix), best first,
 * -1 where there are no more. That is what `belfry retrieve-all --exact` writes, and what `numpy.save` makes of an argsort.
 */
import { open } from 'node:fs/promises';
import { loadAddon, type NpyInfo } from '../../ann/addon.js';
import { BelfryError } from '../../errors.js';
import type { Id } from '../../types.js';

export interface TruthWanted {
  /** What a line stands for, for people: `users of users.txt`. */
  readonly what: string;
  readonly lines: number;
  readonly k: number;
  /** Names of rows; undefined: the file holds ids themselves. */
  readonly itemIds?: readonly Id[] | undefined;
}

/** Errors: BELFRY_BENCH_TRUTH for a file that is cut off, of other users, too short a list, or rows beyond the items. */
export async function readTruth(file: string, wanted: TruthWanted): Promise<readonly (readonly Id[])[]> {
  const refuse = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_BENCH_TRUTH', `--truth: ${file}: ${why}`, { field: '--truth', cause });
  const info = await headerOf(file, refuse);
  const [lines, width] = info.shape as [number, number];
  if (lines !== wanted.lines)
    throw refuse(`${lines} lines for ${wanted.lines} ${wanted.what}; line i must be the answer to the i-th of them`);
  if (width < wanted.k) throw refuse(`lists of ${width} and requests for ${wanted.k} items; give lists of ${wanted.k}`);
  const values = await valuesOf(file, info);
  const { itemIds } = wanted;
  return Array.from({ length: lines }, (_, line) => {
    const row = values.subarray(line * width, (line + 1) * width);
    const end = row.indexOf(-1);
    return Array.from(end < 0 ? row : row.subarray(0, end), (value): Id => {
      const id = itemIds === undefined ? value : itemIds[value];
      if (id !== undefined && Number.isSafeInteger(value) && value >= 0) return id;
      throw refuse(
        itemIds === undefined
          ? `line ${line} holds ${value}, which is no id`
          : `line ${line} holds row ${value} of ${itemIds.length} items; it is of another export`,
      );
    });
  });
}

async function headerOf(file: string, refuse: (why: string, cause?: unknown) => BelfryError): Promise<NpyInfo> {
  let info: NpyInfo;
  try {
    info = await loadAddon().npyInfo(file);
  } catch (error) {
    if (!(error instanceof BelfryError)) throw error;
    throw refuse(`${error.message}; is it cut off?`, error);
  }
  if (info.shape.length !== 2 || !/^[iu][48]$/.test(info.dtype) || info.fortranOrder || info.bigEndian)
    throw refuse(
      `expected integers of 4 or 8 bytes in lines (C order, little-endian), received ${info.dtype} of shape ${info.shape.join(' x ')}`,
    );
  return info;
}

async function valuesOf(file: string, { dtype, dataOffset, shape }: NpyInfo): Promise<Float64Array> {
  const bytes = Number(dtype[1]);
  const data = Buffer.alloc(shape[0]! * shape[1]! * bytes);
  const handle = await open(file);
  try {
    await handle.read(data, 0, data.length, dataOffset);
  } finally {
    await handle.close();
  }
  const read = {
    i4: (at: number) => data.readInt32LE(at),
    u4: (at: number) => data.readUInt32LE(at),
    i8: (at: number) => Number(data.readBigInt64LE(at)),
    u8: (at: number) => Number(data.readBigUInt64LE(at)),
  }[dtype as 'i4' | 'i8' | 'u4' | 'u8'];
  return Float64Array.from({ length: shape[0]! * shape[1]! }, (_, i) => read(i * bytes));
}
