/** Feature tables as folders of .npy files: what NumPy writes, and what it does not. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FeatureTable } from '../../../src/features/feature-table.js';
import { readNpyFolder } from '../../../src/features/npy-columns.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';
import { encode, type NpyParts, writeNpy } from '../../support/npy.js';

const utf32 = (words: readonly string[], width: number): Buffer => {
  const bytes = Buffer.alloc(words.length * width * 4);
  words.forEach((word, at) =>
    [...word].forEach((letter, place) => bytes.writeUInt32LE(letter.codePointAt(0)!, (at * width + place) * 4)),
  );
  return bytes;
};
const ids: NpyParts = { descr: '<U2', shape: [3], data: utf32(['a', 'b', 'ü'], 2) };

function folderOf(files: Record<string, NpyParts>): string {
  const folder = temporaryFolder();
  for (const [name, parts] of Object.entries(files)) writeNpy(join(folder, `${name}.npy`), parts);
  return folder;
}
const table = (files: Record<string, NpyParts>) =>
  FeatureTable.fromColumns(readNpyFolder(folderOf({ id: ids, ...files }), 'features/users').columns);

describe('a folder of .npy files', () => {
  it('is a table: numbers, booleans, strings and lists', () => {
    const users = table({
      size: { descr: '<f4', shape: [3], data: encode([1.5, Number.NaN, -2], '<f4') },
      count: { descr: '>i8', shape: [3], data: encode([1, 2, 3], '>i8') },
      half: { descr: '<f2', shape: [3], data: encode([0.5, -2, 65504], '<f2') },
      member: { descr: '|b1', shape: [3], data: Uint8Array.of(1, 0, 1) },
      city: { descr: '|S3', shape: [3], data: Buffer.from('ulm\0\0\0bo\0', 'latin1') },
      history: { descr: '<U2', shape: [3, 2], data: utf32(['x', 'y', 'z', '', '', ''], 2) },
      scores: { descr: '<f8', shape: [3, 2], data: encode([1, 2, 3, Number.NaN, Number.NaN, Number.NaN], '<f8') },
    });
    expect(users.ids).toEqual(['a', 'b', 'ü']);
    expect(users.featuresOf('a')).toEqual({
      size: 1.5,
      count: 1,
      half: 0.5,
      member: true,
      city: 'ulm',
      history: ['x', 'y'],
      scores: [1, 2],
    });
    expect(users.featuresOf('b')).toEqual({ count: 2, half: -2, member: false, history: ['z'], scores: [3] });
    expect(users.featuresOf('ü')).toEqual({
      size: -2,
      count: 3,
      half: 65504,
      member: true,
      city: 'bo',
      history: [],
      scores: [],
    });
  });

  it('takes integer ids', () => {
    const folder = folderOf({ id: { descr: '<i8', shape: [2], data: encode([7, 2 ** 40], '<i8') } });
    expect(FeatureTable.fromColumns(readNpyFolder(folder, 'users').columns).ids).toEqual([7, 2 ** 40]);
  });

  it.each<[string, Record<string, NpyParts>, RegExp]>([
    [
      'of unequal length',
      { x: { descr: '<f4', shape: [2], data: encode([1, 2], '<f4') } },
      /x.npy has 2 rows, id.npy has 3/,
    ],
    ['cut off', { x: { descr: '<f4', shape: [3], data: encode([1, 2], '<f4') } }, /says 12 bytes of data, there are 8/],
    ['with objects', { x: { descr: '|O', shape: [3] } }, /no feature/],
    ['of complex numbers', { x: { descr: '<c8', shape: [3], data: new Uint8Array(24) } }, /<c8 is no feature/],
    [
      'of three dimensions',
      { x: { text: "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 1), }" } },
      /one or two dimensions/,
    ],
    ['in Fortran order', { x: { fortran: true, shape: [3, 2], data: new Uint8Array(24) } }, /ascontiguousarray/],
  ])('is refused %s', async (_, files, message) => {
    await expectError(() => table(files), 'BELFRY_FEATURES_INVALID', message);
  });

  it('needs id.npy', async () => {
    await expectError(
      () => readNpyFolder(temporaryFolder(), 'features/users'),
      'BELFRY_FEATURES_INVALID',
      /it has no id.npy/,
    );
  });
});
