import { describe, expect, it } from 'vitest';
import { Slices } from '../../../src/features/slices.js';
import { WordIndex } from '../../../src/features/word-index.js';

describe('WordIndex', () => {
  it.each([0, 1, 2, 3, 1000, 4096])('finds each of %i words and no other', async (count) => {
    // Lone surrogates, the empty word, words that differ in one high byte only.
    const words = Array.from({ length: count }, (_, i) =>
      i === 0 ? '' : String.fromCharCode(i << 4, 0xd800 + (i % 7)),
    );
    const index = await WordIndex.build(words, new Slices());
    words.forEach((word, code) => expect(index.codeOf(word)).toBe(code));
    expect([index.codeOf('nowhere'), index.codeOf('\uD800')]).toEqual([undefined, undefined]);
    expect(index.bytes).toBeLessThanOrEqual(Math.max(8, count * 16));
  });

  it('stops between slices when nobody waits', async () => {
    const words = Array.from({ length: 300_000 }, (_, i) => `word ${i}`);
    const late = new Slices(() => {
      throw new Error('late');
    });
    await expect(WordIndex.build(words, late)).rejects.toThrow('late');
  });
});
