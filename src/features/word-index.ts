/**
 * Word → code of a dictionary, as a hash table of codes in one typed array: 8 bytes a word beside the words themselves,
 * where a Map would take about sixty and be filled in one go.
 */
import type { Slices } from './slices.js';

/** Words between two looks at the clock. */
const STEP = 256;

export class WordIndex {
  private constructor(
    private readonly words: readonly string[],
    /** Code + 1, or 0 for a free place; collisions go to the next place. A power of two, at most half full. */
    private readonly places: Uint32Array,
    /** Random, so that nobody can write words that all meet in one place. */
    private readonly seed: number,
  ) {}

  /** `words` are distinct. */
  static async build(words: readonly string[], slices: Slices): Promise<WordIndex> {
    let size = 2;
    while (size < words.length * 2) size *= 2;
    const index = new WordIndex(words, new Uint32Array(size), Math.floor(Math.random() * 2 ** 32));
    for (let code = 0; code < words.length; code++) {
      if (code % STEP === 0 && slices.isOver) await slices.next();
      index.places[index.placeOf(words[code]!)] = code + 1;
    }
    return index;
  }

  get bytes(): number {
    return this.places.byteLength;
  }

  /** Undefined for a word that the dictionary lacks. */
  codeOf(word: string): number | undefined {
    const held = this.places[this.placeOf(word)]!;
    return held === 0 ? undefined : held - 1;
  }

  /** Where the word is, or where it would be. */
  private placeOf(word: string): number {
    const mask = this.places.length - 1;
    let hash = this.seed;
    for (let at = 0; at < word.length; at++) hash = Math.imul(hash ^ word.charCodeAt(at), 0x01000193); // FNV-1a
    hash ^= hash >>> 15; // its low bits alone hardly see the high bits of a character
    for (let place = hash & mask; ; place = (place + 1) & mask) {
      const held = this.places[place]!;
      if (held === 0 || this.words[held - 1] === word) return place;
    }
  }
}
