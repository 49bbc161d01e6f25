/** True answers of a file: whose line is whose, and what is refused. */
import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { userMix } from '../../../src/bench/load/mix.js';
import { readTruth } from '../../../src/bench/load/truth-file.js';
import { temporaryFolder } from '../../support/folders.js';
import { writeNpy } from '../../support/npy.js';

function npy(lines: readonly number[][], dtype: '<i4' | '<i8' = '<i8'): string {
  const values = lines.flat();
  const data = dtype === '<i8' ? BigInt64Array.from(values, BigInt) : Int32Array.from(values);
  return writeNpy(join(temporaryFolder(), 'truth.npy'), {
    descr: dtype,
    shape: [lines.length, lines[0]!.length],
    data: Buffer.from(data.buffer),
  });
}

const wanted = { what: 'users of u.txt', lines: 2, k: 3 };

describe('truth file', () => {
  it('gives ids, or names of rows; -1 ends a line', async () => {
    const lines = [
      [7, 1, 4],
      [2, -1, -1],
    ];
    expect(await readTruth(npy(lines), wanted)).toEqual([[7, 1, 4], [2]]);
    expect(await readTruth(npy(lines, '<i4'), { ...wanted, itemIds: [...'abcdefgh'] })).toEqual([
      ['h', 'b', 'e'],
      ['c'],
    ]);
  });

  it.each([
    ['too few lines', [[1, 2, 3]], {}, /1 lines for 2 users of u\.txt/],
    [
      'too short lists',
      [
        [1, 2],
        [3, 4],
      ],
      {},
      /lists of 2 and requests for 3 items/,
    ],
    [
      'a row beyond the items',
      [
        [0, 1, 2],
        [0, 1, 9],
      ],
      { itemIds: ['a', 'b', 'c'] },
      /line 1 holds row 9 of 3 items/,
    ],
    [
      'what is no id',
      [
        [0, 1, 2],
        [0, -5, 1],
      ],
      {},
      /line 1 holds -5, which is no id/,
    ],
  ])('refuses %s', async (_what, lines, more, message) => {
    await expect(readTruth(npy(lines), { ...wanted, ...more })).rejects.toMatchObject({
      code: 'BELFRY_BENCH_TRUTH',
      message: expect.stringMatching(message),
    });
  });

  it('refuses a file that is cut off', async () => {
    const file = npy([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    truncateSync(file, 150);
    await expect(readTruth(file, wanted)).rejects.toMatchObject({
      code: 'BELFRY_BENCH_TRUTH',
      message: expect.stringMatching(/truth\.npy.*cut off/),
    });
  });

  it('goes with its user, wherever the draw puts him, also in batches', () => {
    const shaping = { k: 1, rerankShare: 0, filters: [], filterShare: 1, zipf: 1, seed: 5 };
    for (const batch of [1, 3]) {
      const { requests, truth } = userMix(['a', 'b', 'c'], { ...shaping, batch }, [['A'], ['B'], ['C']]);
      expect(truth).toHaveLength(requests.length);
      requests.forEach(({ body }, at) => {
        const parsed = JSON.parse(body as string) as { user_id: string; requests?: { user_id: string }[] };
        const users = (parsed.requests ?? [parsed]).map(({ user_id }) => [user_id.toUpperCase()]);
        expect(truth[at]).toEqual(users);
      });
    }
  });
});
