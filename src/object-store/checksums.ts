/**
 * The checksums that S3 keeps of whole objects, computed while bytes arrive: SHA-256, SHA-1 and MD5 of Node, CRC-32 of
 * its zlib, CRC-32C and CRC-64/NVME here. Values are base64 of the big-endian number, as S3 writes them.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const ALGORITHMS = ['SHA256', 'CRC64NVME', 'CRC32C', 'CRC32', 'SHA1', 'MD5'] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

export interface Checksum {
  readonly algorithm: Algorithm;
  /** Base64. */
  readonly value: string;
}

export interface Digest {
  update(bytes: Uint8Array): void;
  /** Base64; no bytes may follow. */
  end(): string;
}

export function digestOf(algorithm: Algorithm): Digest {
  switch (algorithm) {
    case 'SHA256':
    case 'SHA1':
    case 'MD5': {
      const hash = createHash(algorithm);
      return { update: (bytes) => void hash.update(bytes), end: () => hash.digest('base64') };
    }
    case 'CRC32': {
      let value = 0;
      return {
        update: (bytes) => {
          value = crc32(bytes, value);
        },
        end: () => base64(value),
      };
    }
    case 'CRC32C':
      return new TableCrc(CRC32C);
    case 'CRC64NVME':
      return new TableCrc(CRC64NVME);
  }
}

function base64(...words: number[]): string {
  const bytes = Buffer.alloc(words.length * 4);
  for (const [position, word] of words.entries()) bytes.writeUInt32BE(word >>> 0, position * 4);
  return bytes.toString('base64');
}

/** Reflected polynomials; those of 32 bits have no upper half. */
const CRC32C = { high: 0, low: 0x82f63b78, bits: 32 };
const CRC64NVME = { high: 0x9a6c9329, low: 0xac4bc9b5, bits: 64 };
type Polynomial = typeof CRC32C;

interface Tables {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
}
const tables = new Map<Polynomial, Tables>();

/** Reflected, all ones before and after. Eight bytes a step ("slicing by 8"): a table for each position in the step. */
class TableCrc implements Digest {
  private low = 0xffffffff;
  private high: number;
  private readonly tables: Tables;

  constructor(private readonly polynomial: Polynomial) {
    this.high = polynomial.bits === 64 ? 0xffffffff : 0;
    this.tables = tablesOf(polynomial);
  }

  update(bytes: Uint8Array): void {
    const { low: lows, high: highs } = this.tables;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let [low, high] = [this.low, this.high];
    let at = 0;
    for (; at + 8 <= bytes.length; at += 8) {
      const a = low ^ view.getUint32(at, true);
      const b = high ^ view.getUint32(at + 4, true);
      const i7 = 1792 + (a & 255);
      const i6 = 1536 + ((a >>> 8) & 255);
      const i5 = 1280 + ((a >>> 16) & 255);
      const i4 = 1024 + (a >>> 24);
      const i3 = 768 + (b & 255);
      const i2 = 512 + ((b >>> 8) & 255);
      const i1 = 256 + ((b >>> 16) & 255);
      const i0 = b >>> 24;
      low = lows[i7]! ^ lows[i6]! ^ lows[i5]! ^ lows[i4]! ^ lows[i3]! ^ lows[i2]! ^ lows[i1]! ^ lows[i0]!;
      high = highs[i7]! ^ highs[i6]! ^ highs[i5]! ^ highs[i4]! ^ highs[i3]! ^ highs[i2]! ^ highs[i1]! ^ highs[i0]!;
    }
    for (; at < bytes.length; at++) {
      const index = (low ^ bytes[at]!) & 255;
      low = ((low >>> 8) | (high << 24)) ^ lows[index]!;
      high = (high >>> 8) ^ highs[index]!;
    }
    this.low = low;
    this.high = high;
  }

  end(): string {
    return this.polynomial.bits === 32 ? base64(~this.low) : base64(~this.high, ~this.low);
  }
}

function tablesOf(polynomial: Polynomial): Tables {
  const known = tables.get(polynomial);
  if (known !== undefined) return known;
  const low = new Uint32Array(8 * 256);
  const high = new Uint32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let [l, h] = [byte, 0];
    for (let bit = 0; bit < 8; bit++) {
      const carry = l & 1;
      l = ((l >>> 1) | (h << 31)) ^ (carry ? polynomial.low : 0);
      h = (h >>> 1) ^ (carry ? polynomial.high : 0);
    }
    low[byte] = l;
    high[byte] = h;
  }
  for (let at = 256; at < 8 * 256; at++) {
    const [l, h] = [low[at - 256]!, high[at - 256]!];
    low[at] = ((l >>> 8) | (h << 24)) ^ low[l & 255]!;
    high[at] = (h >>> 8) ^ high[l & 255]!;
  }
  const made = { low, high };
  tables.set(polynomial, made);
  return made;
}
