// The trials of the index bench, as data. Per engine: the builds, and for each the grid of search parameters. The last list
// of a grid grows from cheap to dear and is followed until the highest recall asked for is reached.
//   runtime: 'node' or 'python'     adapter: the module under bench/peers     package: on npm or PyPI
//   path: instead of a package, the flag that says where the user built it     rebuilt: not cached
//   builds: params of a build, the metrics it is for (all by default), the grid of searches

/** Beam widths; those below k are left out. */
const EF = [10, 20, 30, 40, 50, 60, 80, 100, 130, 160, 200, 260, 340, 450, 600, 800, 1200, 2000, 3200];

/** Names of parameters that mean a beam width, which no engine accepts below k. */
export const BEAM = ['ef', 'efSearch', 'window', 'beam'];

/** Of Belfry's walk with a filter; a shorter grid than that of the walk without, since it is run for each selectivity. */
export const FILTERED = { stop: [1.08, 1.12, 1.2], ef: [10, 20, 30, 45, 70, 100, 150, 260, 450] };

export const ENGINES = {
  belfry: {
    runtime: 'node',
    adapter: 'belfry',
    rebuilt: true, // at every run: what is measured is this checkout
    builds: [
      {
        params: { degree: 64, candidates: 64 },
        search: {
          stop: [1.04, 1.08, 1.12, 1.2, 1.35],
          ef: [10, 15, 20, 30, 40, 50, 60, 70, 80, 100, 120, 150, 200, 260, 340, 450, 700, 1000],
        },
      },
    ],
  },
  'hnswlib-node': {
    runtime: 'node',
    adapter: 'hnswlib',
    package: 'hnswlib-node',
    builds: [{ params: { M: 16, efConstruction: 200 }, search: { ef: EF } }],
  },
  usearch: {
    runtime: 'node',
    adapter: 'usearch',
    package: 'usearch',
    builds: [
      { params: { connectivity: 16, expansionAdd: 200, quantization: 'f32' }, search: { ef: EF } },
      { params: { connectivity: 16, expansionAdd: 200, quantization: 'i8' }, metrics: ['cosine'], search: { ef: EF } },
    ],
  },
  zvec: {
    runtime: 'node',
    adapter: 'zvec',
    package: '@zvec/zvec',
    builds: [
      { params: { m: 16, efConstruction: 200, quantize: 'UNDEFINED' }, search: { ef: EF } },
      { params: { m: 16, efConstruction: 200, quantize: 'INT8' }, search: { refine: [true], ef: EF } },
    ],
  },
  lancedb: {
    runtime: 'node',
    adapter: 'lancedb',
    package: '@lancedb/lancedb',
    builds: [{ params: { m: 16, efConstruction: 200 }, search: { refine: [4], ef: EF } }],
  },
  hnswlib: {
    runtime: 'python',
    adapter: 'hnswlib_engine',
    package: 'hnswlib',
    builds: [
      { params: { M: 16, efConstruction: 200 }, search: { ef: EF } },
      { params: { M: 32, efConstruction: 300 }, search: { ef: EF } },
    ],
  },
  'faiss-hnsw': {
    runtime: 'python',
    adapter: 'faiss_engine',
    package: 'faiss-cpu',
    builds: [{ params: { factory: 'HNSW32', efConstruction: 200 }, search: { efSearch: EF } }],
  },
  'faiss-ivfpq': {
    runtime: 'python',
    adapter: 'faiss_engine',
    package: 'faiss-cpu',
    builds: [
      {
        // About 1.7 lists a root of the items; two dims a sub-vector, 4 bits each; f32 re-ranking of k_factor_rf times k.
        params: { factory: 'IVF{lists},PQ{halfDims}x4fs,RFlat' },
        search: { k_factor_rf: [4, 10, 30], nprobe: [4, 8, 16, 32, 64, 128, 256, 512] },
      },
    ],
  },
  scann: {
    runtime: 'python',
    adapter: 'scann_engine',
    package: 'scann',
    builds: [
      {
        params: { leavesPerRoot: 1.7, threshold: 0.2 },
        search: { reorderPerK: [5, 12, 30], leaves: [8, 16, 32, 64, 128, 256, 512] },
      },
    ],
  },
  svs: {
    runtime: 'python',
    adapter: 'svs_engine',
    package: 'scalable-vs',
    builds: [
      { params: { degree: 64, window: 200, lvq: [4, 8] }, search: { window: EF } },
      { params: { degree: 64, window: 200 }, search: { window: EF } },
    ],
  },
  vsag: {
    runtime: 'python',
    adapter: 'vsag_engine',
    package: 'pyvsag',
    builds: [{ params: { quantization: 'sq8', degree: 48, efConstruction: 300 }, search: { ef: EF } }],
  },
  ngt: {
    runtime: 'python',
    adapter: 'ngt_engine',
    package: 'ngt',
    builds: [
      {
        params: { edges: 50, outgoing: 10, incoming: 100 },
        search: { epsilon: [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4] },
      },
    ],
  },
  rabitq: {
    runtime: 'python',
    adapter: 'rabitq_engine',
    package: 'rabitqlib',
    builds: [{ params: { degree: 32, efConstruction: 200 }, search: { ef: EF } }],
  },
  lorann: {
    runtime: 'python',
    adapter: 'lorann_engine',
    package: 'lorann',
    builds: [
      {
        params: { clustersPerRoot: 1.7, rank: 32, trainSize: 5 },
        search: { rerankPerK: [4, 10, 30], clusters: [4, 8, 16, 32, 64, 128, 256, 512] },
      },
    ],
  },
  voyager: {
    runtime: 'python',
    adapter: 'voyager_engine',
    package: 'voyager',
    builds: [{ params: { M: 16, efConstruction: 200 }, search: { ef: EF } }],
  },
  glass: {
    runtime: 'python',
    adapter: 'glass_engine',
    path: 'glass',
    builds: [
      { params: { R: 64, L: 400, quantization: 'SQ8U' }, search: { ef: EF } },
      { params: { R: 32, L: 200, quantization: 'SQ8U' }, search: { ef: EF } },
      { params: { R: 96, L: 400, quantization: 'SQ8U' }, search: { ef: EF } },
    ],
  },
  parlayann: {
    runtime: 'node',
    adapter: 'parlayann',
    path: 'parlayann',
    builds: [
      {
        // Its own settings for glove: 8-bit build and walk, 16-bit re-ranking of twice k.
        params: { R: 100, L: 200, alpha: 1, passes: 2 },
        search: {
          beam: [10, 14, 18, 22, 28, 34, 40, 50, 60, 70, 80, 100, 120, 140, 180, 225, 300, 375, 500, 750, 1000],
        },
      },
    ],
  },
};

/** All combinations of a grid's outer lists, each with the list that grows; beams below k are left out. */
export function expandGrid(search, k) {
  const names = Object.keys(search);
  const inner = names.at(-1);
  let outer = [{}];
  for (const name of names.slice(0, -1))
    outer = outer.flatMap((one) => search[name].map((value) => ({ ...one, [name]: value })));
  const values = search[inner].filter((value) => !BEAM.includes(inner) || value >= k);
  return outer.map((fixed) => values.map((value) => ({ ...fixed, [inner]: value })));
}
