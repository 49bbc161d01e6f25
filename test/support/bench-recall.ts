/** Options of a small recall bench, and a graph file with half of its edges cut. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { RecallOptions } from '../../src/bench/recall/recall-bench.js';
import { seeded } from './judge.js';

export function recallOptions(temporary: string, more: Partial<RecallOptions> = {}): RecallOptions {
  return {
    ks: [1, 10, 50, 100],
    sweepKs: [10],
    recall: 0.98,
    queries: 500,
    rounds: 1,
    timed: 20,
    filterShares: [],
    reachRows: 0,
    temporary,
    onProgress: () => undefined,
    ...more,
  };
}

const EMPTY = 0xffffffff;
const NEIGHBOURS = 1;

/** Empties each neighbour slot with probability `share`, and makes the checksums right again: docs/index-file.md. */
export function cutEdges(path: string, share: number): { edges: number; cut: number } {
  const file = readFileSync(path);
  const degree = file.readUInt32LE(36);
  const sections = file.readUInt32LE(12);
  const entry = Array.from({ length: sections }, (_, i) => 128 + 32 * i).find(
    (at) => file.readUInt32LE(at) === NEIGHBOURS,
  )!;
  const [offset, length] = [Number(file.readBigUInt64LE(entry + 8)), Number(file.readBigUInt64LE(entry + 16))];
  const slots = new Uint32Array(file.buffer.slice(file.byteOffset + offset, file.byteOffset + offset + length));
  const random = seeded(1);
  let edges = 0;
  let cut = 0;
  for (let first = 0; first < slots.length; first += degree) {
    const own = slots.subarray(first, first + degree).filter((row) => row !== EMPTY);
    const kept = own.filter(() => random() >= share);
    edges += own.length;
    cut += own.length - kept.length;
    slots.fill(EMPTY, first, first + degree);
    slots.set(kept, first); // the empty slots are last
  }
  file.set(new Uint8Array(slots.buffer), offset);
  file.writeUInt32LE(crc32c(file.subarray(offset, offset + length)), entry + 24);
  file.writeUInt32LE(crc32c(file.subarray(0, 4092)), 4092);
  writeFileSync(path, file);
  return { edges, cut };
}

function crc32c(bytes: Uint8Array): number {
  const table = Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ 0x82f63b78;
    return value;
  });
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
