/** Against the check values of the catalogue of CRC algorithms, Node's own digests, and a bit-by-bit computation. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type Algorithm, ALGORITHMS, digestOf } from '../../../src/object-store/checksums.js';

const bytesOf = (hex: string) => Buffer.from(hex, 'hex').toString('base64');
const CHECK = Buffer.from('123456789');

function digest(algorithm: Algorithm, pieces: readonly Uint8Array[]): string {
  const one = digestOf(algorithm);
  for (const piece of pieces) one.update(piece);
  return one.end();
}

describe('checksums of S3', () => {
  it.each([
    ['CRC32', 'cbf43926'],
    ['CRC32C', 'e3069283'],
    ['CRC64NVME', 'ae8b14860a799888'],
  ] as const)('%s of "123456789"', (algorithm, value) => {
    expect(digest(algorithm, [CHECK])).toBe(bytesOf(value));
    expect(digest(algorithm, [])).toBe(bytesOf('0'.repeat(value.length)));
  });

  it('digests of Node', () => {
    for (const algorithm of ['SHA256', 'SHA1', 'MD5'] as const)
      expect(digest(algorithm, [CHECK])).toBe(createHash(algorithm).update(CHECK).digest('base64'));
  });

  it('do not depend on how the bytes come', () => {
    const bytes = Buffer.from(Array.from({ length: 1000 }, (_, at) => (at * 31 + (at >> 3)) & 255));
    for (const algorithm of ALGORITHMS) {
      const whole = digest(algorithm, [bytes]);
      for (const size of [1, 3, 7, 8, 13, 64, 999]) {
        const pieces = Array.from({ length: Math.ceil(1000 / size) }, (_, at) =>
          bytes.subarray(at * size, (at + 1) * size),
        );
        expect(digest(algorithm, pieces), `${algorithm} in pieces of ${size}`).toBe(whole);
      }
    }
  });

  it('long CRCs equal those computed bit by bit', () => {
    const bytes = Buffer.from(Array.from({ length: 4099 }, (_, at) => (at * at * 7 + 11) & 255));
    const slowly = (polynomial: bigint, bits: bigint): string => {
      const ones = (1n << bits) - 1n;
      let value = ones;
      for (const byte of bytes) {
        value ^= BigInt(byte);
        for (let bit = 0; bit < 8; bit++) value = value & 1n ? (value >> 1n) ^ polynomial : value >> 1n;
      }
      return bytesOf((value ^ ones).toString(16).padStart(Number(bits) / 4, '0'));
    };
    expect(digest('CRC32C', [bytes])).toBe(slowly(0x82f63b78n, 32n));
    expect(digest('CRC64NVME', [bytes])).toBe(slowly(0x9a6c9329ac4bc9b5n, 64n));
    expect(digest('CRC32', [bytes])).toBe(bytesOf(crc32(bytes).toString(16).padStart(8, '0')));
  });
});
