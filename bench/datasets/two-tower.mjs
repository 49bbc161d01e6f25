// A generator of vectors like those of a two-tower recommender trained by inner product. README.md beside this file says
// what each part stands for and why. Row i of a kind depends on (seed, kind, i) only.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeRows } from './npy.mjs';
import { Random } from './random.mjs';

/** Streams of random numbers, so that no two kinds share one. */
const KIND = { topics: 1, categories: 2, items: 3, users: 4, frame: 5, sizes: 6 };

export const MODEL = {
  /** Scale of latent factor j is (1 + j / (dims / 16)) ** -spectrum. */
  spectrum: 0.5,
  topics: 32,
  /** Categories per square root of the catalogue; their sizes follow a Zipf law. */
  categoriesPerRoot: 4,
  categorySizeExponent: 0.8,
  /** Shares of an item's direction: topic, category, its own. Squares sum to 1. */
  shares: { topic: 0.4, category: 0.75, own: 0.527 },
  /** Norms follow a Pareto law with this tail index, cut off at normMax, times a lognormal factor per category. */
  normTail: 8,
  normMax: 4,
  categoryNormSpread: 0.1,
  /** A user likes this many categories at most, and this many items in all. */
  interests: 3,
  liked: 12,
  /** Length of the user's own noise beside the mixture of length 1. */
  userNoise: 0.4,
  /** Lengths of the offsets that all users and all items share, beside own parts of length about 1; and their cosine. */
  gap: 0.4,
  itemOffset: 1.5,
  offsetCosine: 0.8,
  /** The towers share only products: factor j is stretched by exp(N(0, skew)) in one and shrunk by it in the other. */
  skew: 0.3,
};

function normalise(vector, length = 1) {
  let squares = 0;
  for (let i = 0; i < vector.length; i++) squares += vector[i] * vector[i];
  const factor = length / Math.sqrt(squares);
  for (let i = 0; i < vector.length; i++) vector[i] *= factor;
  return vector;
}

/** In-place orthonormal Walsh-Hadamard transform; the length is a power of two. */
function hadamard(vector) {
  const n = vector.length;
  for (let half = 1; half < n; half *= 2) {
    for (let block = 0; block < n; block += 2 * half) {
      for (let i = block; i < block + half; i++) {
        const a = vector[i];
        const b = vector[i + half];
        vector[i] = a + b;
        vector[i + half] = a - b;
      }
    }
  }
  const scale = 1 / Math.sqrt(n);
  for (let i = 0; i < n; i++) vector[i] *= scale;
}

export class TwoTower {
  #seed;
  #random;
  #scratch;

  /**
   * @param {{ rows: number, dims: number, seed?: number, model?: object }} options dims is a power of two
   */
  constructor({ rows, dims, seed = 1, model = {} }) {
    this.model = { ...MODEL, ...model };
    this.rows = rows;
    this.dims = dims;
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#scratch = new Float64Array(dims);
    const { spectrum, topics, categoriesPerRoot, shares } = this.model;
    this.scale = Float64Array.from({ length: dims }, (_, j) => (1 + j / (dims / 16)) ** -spectrum);
    this.#makeFrame();
    const topic = Array.from({ length: topics }, (_, t) => this.#direction(KIND.topics, t, shares.topic));
    this.categoryCount = Math.max(1, Math.round(categoriesPerRoot * Math.sqrt(rows)));
    this.centres = Array.from({ length: this.categoryCount }, (_, c) => {
      const centre = this.#direction(KIND.categories, c, shares.category);
      const own = topic[this.#random.integer(topics)];
      for (let i = 0; i < dims; i++) centre[i] += own[i];
      return centre;
    });
    this.#assignCategories();
  }

  /** A random direction of the latent spectrum, of that length. */
  #direction(kind, row, length) {
    const vector = new Float64Array(this.dims);
    this.#random.reset(this.#seed, kind, row).normals(vector, this.scale);
    return normalise(vector, length);
  }

  /** What both towers share: the offsets, the stretch of each factor, and the rotation that hides the factors. */
  #makeFrame() {
    const { dims, model } = this;
    const flat = new Float64Array(dims).fill(1);
    const random = this.#random.reset(this.#seed, KIND.frame);
    const vector = () => {
      const made = new Float64Array(dims);
      random.normals(made, flat);
      return made;
    };
    this.itemOffset = normalise(vector());
    const other = normalise(vector());
    const along = other.reduce((sum, value, i) => sum + value * this.itemOffset[i], 0);
    for (let i = 0; i < dims; i++) other[i] -= along * this.itemOffset[i];
    normalise(other);
    const cosine = model.offsetCosine;
    this.userOffset = other.map((value, i) => cosine * this.itemOffset[i] + Math.sqrt(1 - cosine ** 2) * value);
    this.stretch = vector().map((value) => Math.exp(model.skew * value));
    this.signs = [vector(), vector()].map((values) => values.map(Math.sign));
    this.flat = flat;
  }

  /** Category of each item by a Zipf law over categories, and the items of each category. */
  #assignCategories() {
    const { rows, categoryCount: count, model } = this;
    const random = this.#random.reset(this.#seed, KIND.sizes);
    const cumulative = new Float64Array(count);
    let sum = 0;
    for (let c = 0; c < count; c++) cumulative[c] = sum += (c + 1) ** -model.categorySizeExponent;
    this.categoryNorm = Float64Array.from({ length: count }, () => 0);
    random.normals(this.categoryNorm, new Float64Array(count).fill(model.categoryNormSpread));
    for (let c = 0; c < count; c++) this.categoryNorm[c] = Math.exp(this.categoryNorm[c]);
    this.categoryOf = new Uint32Array(rows);
    this.categoryStart = new Uint32Array(count + 1);
    for (let row = 0; row < rows; row++) {
      const wanted = random.uniform() * sum;
      let low = 0;
      let high = count - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (cumulative[middle] < wanted) low = middle + 1;
        else high = middle;
      }
      this.categoryOf[row] = low;
      this.categoryStart[low + 1]++;
    }
    for (let c = 0; c < count; c++) this.categoryStart[c + 1] += this.categoryStart[c];
    const next = this.categoryStart.slice(0, count);
    this.members = new Uint32Array(rows);
    for (let row = 0; row < rows; row++) this.members[next[this.categoryOf[row]]++] = row;
  }

  /** Latent direction of an item into `out` (f64); returns its norm. */
  #latentItem(row, out) {
    const { model, dims } = this;
    const category = this.categoryOf[row];
    const random = this.#random.reset(this.#seed, KIND.items, row);
    const norm = Math.min(model.normMax, random.uniform() ** (-1 / model.normTail)) * this.categoryNorm[category];
    random.normals(out, this.scale);
    normalise(out, model.shares.own);
    const centre = this.centres[category];
    for (let i = 0; i < dims; i++) out[i] += centre[i];
    return norm;
  }

  /** From latent factors to the axes of the export. Orthogonal, so that products stay as they are. */
  #rotate(vector, target) {
    for (const signs of this.signs) {
      for (let i = 0; i < vector.length; i++) vector[i] *= signs[i];
      hadamard(vector);
    }
    target.set(vector);
  }

  /** @param {Float32Array} target dims values */
  item(row, target) {
    const vector = this.#scratch;
    const norm = this.#latentItem(row, vector);
    for (let i = 0; i < vector.length; i++) vector[i] += this.model.itemOffset * this.itemOffset[i];
    normalise(vector, norm);
    for (let i = 0; i < vector.length; i++) vector[i] *= this.stretch[i];
    this.#rotate(vector, target);
  }

  /** @param {Float32Array} target dims values */
  user(row, target) {
    const { model, dims, rows } = this;
    const random = new Random(this.#seed, KIND.users, row);
    const interests = Array.from({ length: 1 + random.integer(model.interests) }, () => random.integer(rows));
    const mixture = new Float64Array(dims);
    const liked = new Float64Array(dims);
    for (let n = 0; n < model.liked; n++) {
      const category = this.categoryOf[interests[random.integer(interests.length)]];
      const first = this.categoryStart[category];
      const size = this.categoryStart[category + 1] - first;
      this.#latentItem(this.members[first + random.integer(size)], liked);
      for (let i = 0; i < dims; i++) mixture[i] += liked[i];
    }
    normalise(mixture);
    const noise = this.#scratch;
    random.normals(noise, this.flat);
    normalise(noise, model.userNoise);
    for (let i = 0; i < dims; i++) noise[i] += mixture[i] + model.gap * this.userOffset[i];
    for (let i = 0; i < dims; i++) noise[i] /= this.stretch[i];
    this.#rotate(noise, target);
  }
}

const NAME = /^two-tower-(\d+)(k|m)-d(64|128|256)(?:-s(\d+))?$/;
const ROWS_MIN = 10_000;
const ROWS_MAX = 10_000_000;

/** Rows, dims and seed of a name such as `two-tower-1m-d128` or `two-tower-100k-d64-s7`; undefined for other names. */
export function parseTwoTower(name) {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const rows = Number(match[1]) * (match[2] === 'k' ? 1_000 : 1_000_000);
  if (rows < ROWS_MIN || rows > ROWS_MAX) {
    throw new Error(`${name}: the generator makes ${ROWS_MIN} to ${ROWS_MAX} items, not ${rows}`);
  }
  return { rows, dims: Number(match[3]), seed: Number(match[4] ?? 1) };
}

/** Users of the held-out queries come after every training user: the two never meet. */
const FIRST_QUERY = 100_000_000;

/**
 * Writes items.npy, users.npy (a sample for building) and queries.npy (held out) once, and says where.
 * @param {{ rows: number, dims: number, seed: number, users?: number, queries?: number }} size
 * @returns {{ items: string, users: string, queries: string }}
 */
export function ensureTwoTower(folder, { rows, dims, seed, users = 100_000, queries = 5_000 }) {
  const files = {
    items: join(folder, 'items.npy'),
    users: join(folder, 'users.npy'),
    queries: join(folder, 'queries.npy'),
  };
  const stamp = join(folder, 'model.json');
  const wanted = JSON.stringify({ rows, dims, seed, users, queries, model: MODEL });
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return files;
  mkdirSync(folder, { recursive: true });
  rmSync(stamp, { force: true });
  process.stderr.write(`bench: generating ${rows} items and ${users + queries} users of ${dims} dims\n`);
  const model = new TwoTower({ rows, dims, seed });
  writeRows(files.items, rows, dims, (row, target) => model.item(row, target));
  writeRows(files.users, users, dims, (row, target) => model.user(row, target));
  writeRows(files.queries, queries, dims, (row, target) => model.user(FIRST_QUERY + row, target));
  writeFileSync(stamp, wanted);
  return files;
}
