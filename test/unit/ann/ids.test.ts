import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { IdMap } from '../../../src/ann/ids.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';

function textFile(content: string | Uint8Array): string {
  const path = join(temporaryFolder(), 'item_ids.txt');
  writeFileSync(path, content);
  return path;
}

describe('ids', () => {
  it('are row numbers when nobody names them', () => {
    const ids = IdMap.ofRows(3);
    expect([ids.idOf(2), ids.rowOf(2), ids.rowOf(3), ids.rowOf(-1), ids.rowOf('2')]).toEqual([
      2,
      2,
      undefined,
      undefined,
      undefined,
    ]);
    expect(ids.all()).toEqual([0, 1, 2]);
  });

  it('are lines of a text file, whatever ends them', async () => {
    expect((await IdMap.fromText(textFile('\uFEFFlibc6\nbash'))).rowOf('libc6')).toBe(0);
    const ids = await IdMap.fromText(textFile('libc6\r\nbash\nnaïve'));
    expect(ids.all()).toEqual(['libc6', 'bash', 'naïve']);
    expect(ids.rowOf('bash')).toBe(1);
    expect((await IdMap.fromText(textFile('a\nb\n'))).size).toBe(2);
    expect((await IdMap.fromText(textFile('a\uFFFDb\n'))).rowOf('a\uFFFDb')).toBe(0);
    expect((await IdMap.fromText(textFile(''))).size).toBe(0);
  });

  it('are listed in row order, once for all who hold the list', async () => {
    for (const lines of [
      ['libc6', 'bash', 'a name of more than thirteen characters'],
      ['libc6', 'naïve', '日本'],
    ]) {
      const ids = await IdMap.fromText(textFile(lines.join('\n')));
      const list = ids.all();
      expect(list).toEqual(lines);
      expect(ids.all()).toBe(list);
    }
    expect(IdMap.fromIntegers(BigInt64Array.of(7n, 2n ** 52n), 'ids.npy').all()).toEqual([7, 2 ** 52]);
  });

  it('I1: refuses duplicates and names both rows', async () => {
    await expectError(
      () => IdMap.fromText(textFile('a\nb\na\n')),
      'BELFRY_DUPLICATE_ID',
      'item_ids.txt: id "a" stands in row 0 and in row 2; each id must be there once',
    );
    await expectError(
      () => IdMap.fromIntegers(BigInt64Array.of(5n, 5n), '/x/item_ids.npy'),
      'BELFRY_DUPLICATE_ID',
      /item_ids\.npy: id 5 stands in row 0 and in row 1/,
    );
  });

  it('I2: refuses ids that JSON or people cannot carry', async () => {
    await expectError(
      () => IdMap.fromIntegers(BigInt64Array.of(1n, -1n), 'ids.npy'),
      'BELFRY_INVALID_ID',
      /row 1: expected an integer from 0 to 9007199254740991, received -1; use string ids/,
    );
    await expectError(
      () => IdMap.fromIntegers(BigInt64Array.of(2n ** 53n), 'ids.npy'),
      'BELFRY_INVALID_ID',
      /received 9007199254740992/,
    );
    await expectError(
      () => IdMap.fromText(textFile(`ok\n${'x'.repeat(257)}\n`)),
      'BELFRY_INVALID_ID',
      'item_ids.txt: line 2: expected 1 to 256 characters, received 257',
    );
    await expectError(
      () => IdMap.fromText(textFile('a\n\nb\n')),
      'BELFRY_INVALID_ID',
      'item_ids.txt: line 2: expected 1 to 256 characters, received 0',
    );
    await expectError(
      () => IdMap.fromText(textFile(Buffer.from([97, 10, 0xff, 10]))),
      'BELFRY_INVALID_ID',
      'item_ids.txt: line 2 is not UTF-8',
    );
    const sparse = IdMap.fromIntegers(BigInt64Array.of(7n, 9_007_199_254_740_991n), 'ids.npy');
    expect(sparse.rowOf(Number.MAX_SAFE_INTEGER)).toBe(1);
  });
});
