/** F rows of the fault table for `.npy`: header, size, dtypes, orders, huge files, files that change. */
import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { load as npyjsLoad } from 'npyjs';
import { afterAll, describe, expect, it } from 'vitest';
import { loadAddon } from '../../../src/ann/addon.js';
import { errorOf } from '../../support/errors.js';
import { randomVectors } from '../../support/judge.js';
import { encode, npyBytes, transposed, writeNpy } from '../../support/npy.js';

const addon = loadAddon();
const folder = mkdtempSync(join(tmpdir(), 'belfry-npy-'));
const path = join(folder, 'x.npy');
const out = join(folder, 'out.npy');
afterAll(() => rmSync(folder, { recursive: true }));

const f4 = (count: number) => new Uint8Array(count * 4);
const header = (text: string) => writeNpy(path, { text });
const info = (file = path) => errorOf(() => addon.npyInfo(file));

describe('F1: a header that is not well formed is refused with its offset and the reason', () => {
  const dict = (shape: string, rest = "'descr': '<f4', 'fortran_order': False") => `{${rest}, 'shape': ${shape}, }`;
  const invalid = (at: number, why: string) => `BELFRY_NPY_INVALID x.npy: invalid .npy header at byte ${at}: ${why}`;

  it.each([
    [
      'unknown key',
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), 'evil': 1}",
      68,
      "unknown key 'evil'; expected descr, fortran_order and shape",
    ],
    ['missing descr', "{'fortran_order': False, 'shape': (1, 1)}", 51, "missing key 'descr'"],
    ['missing order', "{'descr': '<f4', 'shape': (1, 1)}", 43, "missing key 'fortran_order'"],
    ['missing shape', "{'descr': '<f4', 'fortran_order': False}", 50, "missing key 'shape'"],
    ['a key twice', "{'shape': (1,), 'shape': (1,)}", 26, "key 'shape' stands twice"],
    [
      'a byte order that is NUL',
      "{'descr': '\0f4', 'fortran_order': False, 'shape': (1, 1)}",
      21,
      'expected a plain string',
    ],
    ['a key without end', `{'${'k'.repeat(6_000)}': 1}`, 12, 'a string of more than 64 characters'],
    ['double quotes', '{"descr": "<f4"}', 11, 'double quotes; NumPy writes single ones'],
    ['negative', dict('(-1, 4)'), 61, 'shape: expected sizes of 0 or more, found a negative one'],
    ['fraction', dict('(1.5, 4)'), 62, "shape: expected an integer, ',' or ')'"],
    ['a name', dict('(n, 4)'), 61, 'shape: expected an integer'],
    ['beyond 64 bits', dict('(99999999999999999999, 4)'), 61, 'shape: a size beyond 2^64'],
    ['product beyond 64 bits', dict('(4294967296, 4294967296)'), 84, 'shape: the product of the sizes passes 2^64'],
    ['product beyond files', dict('(2147483648, 1073741824)'), 84, 'shape: the product of the sizes passes 2^60'],
    ['a number, not a tuple', dict('(5)'), 62, 'shape: a tuple of one needs a comma: (n,)'],
    ['order is not a bool', "{'fortran_order': 0}", 28, 'expected True or False'],
    [
      'text behind the dict',
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1)} x",
      68,
      'expected only spaces and a newline after the dict',
    ],
    ['no dict', 'import os', 10, 'expected a header dict'],
  ])('%s', async (_name, text, at, why) => {
    header(text);
    expect(await info()).toBe(invalid(at, why));
  });

  it('bad magic, an empty file, a text file', async () => {
    writeFileSync(path, '');
    expect(await info()).toBe(invalid(0, 'expected the magic \\x93NUMPY; this is not a .npy file'));
    writeFileSync(path, '\x93NUMPX\x01\x00', 'latin1');
    expect(await info()).toBe(invalid(5, 'expected the magic \\x93NUMPY; this is not a .npy file'));
  });
  it('version above 3', async () => {
    writeNpy(path, { version: 4, shape: [1, 1], data: f4(1) });
    expect(await info()).toBe(invalid(6, 'expected format version 1.0, 2.0 or 3.0, found 4.0'));
  });
  it('header above 10,000 bytes', async () => {
    header(`${dict('(1, 1)')}${' '.repeat(10_000)}`);
    expect(await info()).toMatch(
      /^BELFRY_NPY_INVALID x\.npy: invalid \.npy header at byte 8: a header of \d+ bytes; the limit is 10000$/,
    );
    writeFileSync(path, Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 2, 0, 255, 255, 255, 255]));
    expect(await info()).toBe(invalid(8, 'a header of 4294967295 bytes; the limit is 10000'));
  });
  it('a byte that is not ASCII', async () => {
    header("{'descr': '<f4é'}");
    expect(await info()).toBe(invalid(24, 'expected ASCII text, found byte 233'));
  });
  it('cut anywhere, and any byte changed: an error with a code or a header, never a crash', async () => {
    const good = npyBytes({ shape: [2, 3], data: f4(6) });
    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.boolean(),
        async (at, byte, cut) => {
          const bytes = Buffer.from(cut ? good.subarray(0, at) : good);
          if (!cut) bytes[at] = byte;
          writeFileSync(path, bytes);
          const result = await info();
          expect(result === 'no error' || /^BELFRY_NPY_(INVALID|UNSUPPORTED|SIZE) /.test(result)).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('F2: a file shorter or longer than its header says is refused', () => {
  it('shorter', async () => {
    writeNpy(path, { shape: [4, 4], data: f4(15) });
    expect(await info()).toBe(
      'BELFRY_NPY_SIZE x.npy: expected 192 bytes for shape (4, 4) of f4, the file has 188, 4 too few; write the export again',
    );
  });
  it('longer', async () => {
    writeNpy(path, { shape: [4, 4], data: f4(17) });
    expect(await info()).toBe(
      'BELFRY_NPY_SIZE x.npy: expected 192 bytes for shape (4, 4) of f4, the file has 196, 4 too many; write the export again',
    );
  });
  it('an exabyte claimed by 200 bytes: no allocation, the same error', async () => {
    writeNpy(path, { shape: [281474976710656, 1024], data: f4(4) });
    expect(await errorOf(() => addon.openMatrix(path))).toMatch(
      /^BELFRY_NPY_SIZE x\.npy: expected 1152921504606847\d+ bytes/,
    );
  });
});

describe('F3: dtypes that cannot be embeddings are named, with the supported ones', () => {
  const supported = 'supported: f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8';
  it.each([
    ["'|O'", "'|O' (Python objects)"],
    ["'|b1'", "'|b1' (bool)"],
    ["'<c8'", "'<c8' (complex)"],
    ["'<U4'", "'<U4' (strings)"],
    ["'|S4'", "'|S4' (strings)"],
    ["'|V8'", "'|V8' (structured)"],
    ["[('a', '<f4')]", "'structured'"],
    ["'<f16'", "'<f16'"],
    ["'<M8'", "'<M8'"],
  ])('%s', async (descr, named) => {
    header(`{'descr': ${descr}, 'fortran_order': False, 'shape': (1, 1), }`);
    expect(await info()).toBe(`BELFRY_NPY_UNSUPPORTED x.npy: dtype ${named} is not supported; ${supported}`);
  });
  it('integers and other shapes are legal files, but no embeddings', async () => {
    writeNpy(path, { descr: '<i4', shape: [2, 2], data: f4(4) });
    expect(await errorOf(() => addon.openMatrix(path))).toBe(
      'BELFRY_NPY_UNSUPPORTED x.npy: dtype i4 cannot be embeddings; supported: f2, f4, f8',
    );
    for (const [shape, shown] of [
      [[4], '(4,)'],
      [[2, 2, 1], '(2, 2, 1)'],
      [[], '()'],
    ] as const) {
      writeNpy(path, { shape, data: f4(shape.length === 0 ? 1 : 4) });
      expect(await errorOf(() => addon.openMatrix(path))).toBe(
        `BELFRY_NPY_UNSUPPORTED x.npy: expected a 2-D matrix (rows, dims), found shape ${shown}`,
      );
    }
    writeNpy(path, { shape: [1, 4097], data: f4(4097) });
    expect(await errorOf(() => addon.openMatrix(path))).toBe(
      'BELFRY_NPY_UNSUPPORTED x.npy: expected 1 to 4096 dims, found 4097',
    );
  });
});

describe('F4: every float dtype, byte order, memory order and alignment is converted correctly', () => {
  const values = Array.from({ length: 7 * 21 }, (_, i) => ((i * 37) % 101) / 8 - 6); // exact in f16
  for (const descr of ['<f2', '>f2', '<f4', '>f4', '<f8', '>f8']) {
    for (const fortran of [false, true]) {
      for (const align of [64, 1]) {
        it(`${descr} ${fortran ? 'Fortran' : 'C'} order, data ${align === 1 ? 'unaligned' : 'aligned'}`, async () => {
          const data = encode(fortran ? transposed(values, 21, 7) : values, descr);
          writeNpy(path, {
            descr,
            fortran,
            shape: [21, 7],
            data,
            align: align === 1 ? 1 : 64,
            version: align === 1 ? 3 : 1,
          });
          const matrix = await addon.openMatrix(path);
          expect(matrix.info).toMatchObject({
            dtype: descr.slice(1),
            bigEndian: descr[0] === '>',
            fortranOrder: fortran,
            shape: [21, 7],
          });
          expect([...matrix.readRows(Uint32Array.of(20, 0, 3))]).toEqual(
            [20, 0, 3].flatMap((row) => values.slice(row * 7, row * 7 + 7)),
          );
          // The same through the import, and through an index over the file as it is.
          const importing = await addon.openImport({ path, out });
          while ((await importing.step(8)) < 21);
          const profile = await importing.finish();
          expect(profile).toMatchObject({ rows: 21, dims: 7, nonFiniteCount: 0, overflowCount: 0 });
          const copy = await addon.openMatrix(out);
          expect(copy.info).toMatchObject({
            dtype: descr.endsWith('f2') ? 'f2' : 'f4',
            bigEndian: false,
            fortranOrder: false,
            version: 1,
          });
          const all = Uint32Array.from({ length: 21 }, (_, i) => i);
          expect([...copy.readRows(all)]).toEqual(values);
          const index = await addon.createIndex({ matrix, metric: 'l2' });
          const hits = await index.search({ queries: Float32Array.from(values.slice(35, 42)), k: 1, mode: 'exact' });
          expect([hits.rows[0], hits.scores[0]]).toEqual([5, -0]);
          for (const handle of [matrix, copy, index]) handle.close();
        });
      }
    }
  }

  it('reads what npyjs reads, on files that both accept', async () => {
    const vectors = randomVectors(50, 9, 4);
    writeNpy(path, { shape: [50, 9], data: encode(vectors, '<f4') });
    const bytes = readFileSync(path);
    const theirs = await npyjsLoad(
      bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer,
    );
    const ours = (await addon.openMatrix(path)).readRows(Uint32Array.from({ length: 50 }, (_, i) => i));
    expect([...ours]).toEqual([...(theirs.data as Float32Array)]);
  });

  it('an import reports NaN, infinite, zero and overflowing rows and the norms', async () => {
    const rows = [
      [3, 4],
      [Number.NaN, 1],
      [0, 0],
      [1, Number.POSITIVE_INFINITY],
      [0, -0],
      [1e300, 1],
      [6, 8],
    ];
    writeNpy(path, { descr: '<f8', shape: [7, 2], data: encode(rows.flat(), '<f8') });
    const importing = await addon.openImport({ path, out });
    await importing.step(100);
    const profile = await importing.finish();
    expect([...profile.nonFiniteRows]).toEqual([1, 3, 5]); // what overflows is infinite in the copy
    expect([...profile.zeroRows]).toEqual([2, 4]);
    expect(profile).toMatchObject({
      nonFiniteCount: 3,
      zeroCount: 2,
      overflowCount: 1,
      normMin: 0,
      normMax: 10,
      normMean: 3.75,
    });
  });

  it('an empty matrix is legal', async () => {
    writeNpy(path, { shape: [0, 5] });
    const importing = await addon.openImport({ path, out });
    expect(await importing.step(10)).toBe(0);
    expect(await importing.finish()).toMatchObject({ rows: 0, dims: 5, normMax: 0 });
    expect((await addon.openMatrix(out)).rows).toBe(0);
  });
});

describe('F5: files beyond 4 GiB', () => {
  it('the last row of a sparse 4.5 GiB file is read, and the file is not', async () => {
    const rows = 4_718_592; // x 256 x 4 bytes = 4.5 GiB
    const head = npyBytes({ shape: [rows, 256] });
    const descriptor = openSync(path, 'w');
    writeSync(descriptor, head);
    ftruncateSync(descriptor, head.length + rows * 1024);
    writeSync(descriptor, encode([1.5, -2.5], '<f4'), 0, 8, head.length + (rows - 1) * 1024);
    closeSync(descriptor);
    expect(await addon.npyInfo(path)).toMatchObject({ fileBytes: head.length + rows * 1024, shape: [rows, 256] });
    const matrix = await addon.openMatrix(path);
    expect([...matrix.readRows(Uint32Array.of(rows - 1)).subarray(0, 3)]).toEqual([1.5, -2.5, 0]);
    matrix.close();
    rmSync(path);
  });
});

describe('F6: a source that changes during the import', () => {
  const start = async () => {
    writeNpy(path, { shape: [50_000, 64], data: f4(50_000 * 64) });
    const importing = await addon.openImport({ path, out });
    await importing.step(100);
    return importing;
  };
  const message =
    'BELFRY_FILE_CHANGED x.npy: was replaced, truncated or written to while it was read; let the export finish, then retry';

  it('truncated: the step that reaches the end fails, without a crash', async () => {
    const importing = await start();
    truncateSync(path, 30_000 * 256);
    expect(await errorOf(() => importing.step(50_000))).toMatch(
      /^BELFRY_FILE_CHANGED x\.npy: ended at byte \d+ while it was read; let the export finish, then retry$/,
    );
    for (const call of ['step', 'finish'] as const) {
      expect(await errorOf(() => importing[call](1))).toBe(
        `BELFRY_INVALID_ARGUMENT ${call}: expected an import without a failed step, received x.npy after one; open the import again`,
      );
    }
    importing.abort();
  });
  it('appended to: found at the end', async () => {
    const importing = await start();
    appendFileSync(path, 'x');
    await importing.step(50_000);
    expect(await errorOf(() => importing.finish())).toBe(message);
  });
  it('replaced by another file: found at the end', async () => {
    const importing = await start();
    writeNpy(join(folder, 'new.npy'), { shape: [50_000, 64], data: f4(50_000 * 64) });
    renameSync(join(folder, 'new.npy'), path);
    await importing.step(50_000);
    expect(await errorOf(() => importing.finish())).toBe(message);
  });
});

describe('X3 and the states of an import', () => {
  it('a full disk is an error of its own', async () => {
    writeNpy(path, { shape: [100, 4], data: f4(400) });
    // /dev/full answers every write with ENOSPC.
    expect(await errorOf(() => addon.openImport({ path, out: '/dev/full' }))).toBe(
      'BELFRY_DISK_SPACE full: the disk is full (No space left on device); free space and retry',
    );
  });
  it('missing files and folders', async () => {
    expect(await errorOf(() => addon.openMatrix(join(folder, 'nothing.npy')))).toBe(
      'BELFRY_FILE_UNREADABLE nothing.npy: cannot be opened: No such file or directory',
    );
    expect(await errorOf(() => addon.npyInfo(folder))).toMatch(
      /^BELFRY_FILE_UNREADABLE belfry-npy-.*: expected a regular file, found a folder$/,
    );
    expect(await errorOf(() => addon.openImport({ path, out: join(folder, 'no', 'x.npy') }))).toBe(
      'BELFRY_FILE_UNREADABLE x.npy: cannot be written: No such file or directory',
    );
  });
  it('finish before the last row, calls side by side, and calls after abort are refused', async () => {
    writeNpy(path, { shape: [50_000, 64], data: f4(50_000 * 64) });
    const importing = await addon.openImport({ path, out });
    expect(await errorOf(() => importing.finish())).toBe(
      'BELFRY_INVALID_ARGUMENT finish: expected all 50000 rows to be imported, received 0',
    );
    const first = importing.step(50_000);
    expect(await errorOf(() => importing.step(1))).toBe(
      'BELFRY_INVALID_ARGUMENT NativeImport: a step is still running; await it before the next call',
    );
    expect(await first).toBe(50_000);
    importing.abort();
    importing.abort();
    expect(await errorOf(() => importing.step(1))).toBe('BELFRY_CLOSED NativeImport was used after close');
  });
});

describe('ids', () => {
  it.each(['<i8', '>i8', '<i4', '|i1', '>u2', '<u8', '|u1'])('%s', async (descr) => {
    const values = descr[1] === 'u' ? [0, 7, 255] : [0, -7, 127];
    writeNpy(path, { descr, shape: [3], data: encode(values, descr) });
    expect([...(await addon.readIds(path))]).toEqual(values.map(BigInt));
  });
  it('refuses floats, matrices, and ids beyond 2^63', async () => {
    writeNpy(path, { shape: [3], data: f4(3) });
    expect(await errorOf(() => addon.readIds(path))).toBe(
      'BELFRY_NPY_UNSUPPORTED x.npy: expected a 1-D file of integer ids, found f4 of shape (3,)',
    );
    writeNpy(path, { descr: '<u8', shape: [2], data: Buffer.alloc(16, 0xff) });
    expect(await errorOf(() => addon.readIds(path))).toBe(
      'BELFRY_INVALID_ID x.npy: row 0 holds id 18446744073709551615, beyond 2^63 - 1',
    );
  });
});
