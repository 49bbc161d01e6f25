/** Memory of feeds: one buffer for a run, used again when it has come back. */
import { describe, expect, it } from 'vitest';
import { FeedBuffers, FeedMemory } from '../../../src/features/feed-memory.js';

describe('memory of feeds', () => {
  it('lies in one buffer, aligned to eight bytes; what has no room gets its own', () => {
    const memory = new FeedMemory(new ArrayBuffer(40));
    const [first, second, third] = [
      memory.take(Float32Array, 3),
      memory.take(Float64Array, 2),
      memory.take(Int32Array, 3),
    ];
    expect([first.byteOffset, second.byteOffset]).toEqual([0, 16]);
    expect([first.buffer, second.buffer]).toEqual([memory.buffer, memory.buffer]);
    expect([third.buffer.byteLength, third.length]).toEqual([12, 3]);
    expect(memory.wanted).toBe(48);
  });

  it('comes back, and is used again where it is large enough', () => {
    const buffers = new FeedBuffers(1);
    const small = buffers.take();
    small.take(Float32Array, 10);
    buffers.done(small);
    const memory = buffers.take();
    expect([small.buffer.byteLength, memory.buffer.byteLength]).toEqual([0, 40]);
    buffers.giveBack([new ArrayBuffer(39), memory.buffer, new ArrayBuffer(40)]);
    expect(buffers.take().buffer).toBe(memory.buffer);
    expect(buffers.take().buffer).not.toBe(memory.buffer);
  });

  it('keeps at most 2 MiB a buffer, however large a request was', () => {
    const buffers = new FeedBuffers();
    const large = buffers.take();
    large.take(Float32Array, 5_000_000);
    buffers.done(large);
    const next = buffers.take();
    expect(next.buffer.byteLength).toBe(2 * 2 ** 20);
    expect(next.take(Float32Array, 5_000_000).length).toBe(5_000_000);
    buffers.giveBack([new ArrayBuffer(20_000_000), next.buffer]);
    expect(buffers.take().buffer).toBe(next.buffer);
  });

  it('is made as it is filled where nothing ever comes back', () => {
    const buffers = new FeedBuffers();
    const sent = buffers.take();
    sent.take(Float32Array, 1000);
    buffers.taken(sent);
    expect(buffers.take().buffer.byteLength).toBe(0);
  });
});
