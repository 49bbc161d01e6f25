// Seeded random numbers (sfc32 by Chris Doty-Humphrey). A stream is named by numbers, so row i of a data set is a
// function of (seed, kind, i) alone: any row can be made again without making the ones before it.

function mix(h, value) {
  h = Math.imul(h ^ value, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

export class Random {
  #a = 0;
  #b = 0;
  #c = 0;
  #count = 1;

  constructor(...name) {
    this.reset(...name);
  }

  /** Starts the stream of that name. */
  reset(seed, kind = 0, row = 0) {
    this.#a = mix(mix(0x9e3779b9, seed), kind);
    this.#b = mix(this.#a, row);
    this.#c = mix(this.#b, 0x243f6a88);
    this.#count = 1;
    for (let i = 0; i < 12; i++) this.#next();
    return this;
  }

  #next() {
    const out = (((this.#a + this.#b) | 0) + this.#count++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + out) | 0;
    return out;
  }

  /** Uniform in (0, 1). */
  uniform() {
    return ((this.#next() >>> 0) + 0.5) / 2 ** 32;
  }

  /** Uniform integer in [0, below). */
  integer(below) {
    return Math.floor(this.uniform() * below);
  }

  /** Fills `target` with standard normal values times `scale[i]` (Box and Muller). */
  normals(target, scale) {
    for (let i = 0; i < target.length; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      target[i] = radius * Math.cos(angle) * scale[i];
      if (i + 1 < target.length) target[i + 1] = radius * Math.sin(angle) * scale[i + 1];
    }
  }
}
