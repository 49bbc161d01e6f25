/** The layering rules of ARCHITECTURE.md, as a test. Each rule is also shown to bite on a made-up offender. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const FILE_LINES_MAX = 420;

/** Folder → what it may import besides itself. `version` is package facts, as low as `errors` and `types`. */
const BASE = ['errors', 'types', 'version', 'resilience'];
const MAY_IMPORT: Record<string, string[]> = {
  errors: [],
  resilience: ['errors'],
  types: [],
  version: [],
  config: BASE,
  telemetry: BASE,
  access: [...BASE, 'config', 'telemetry', 'ann'],
  ann: [...BASE, 'config', 'telemetry'],
  inference: [...BASE, 'config', 'telemetry'],
  features: [...BASE, 'config', 'telemetry', 'ann'],
  tower: [...BASE, 'config', 'telemetry', 'inference', 'features'],
  rerank: [...BASE, 'config', 'telemetry', 'inference', 'features'],
  generation: [...BASE, 'config', 'telemetry', 'ann', 'inference', 'features', 'tower', 'rerank'],
  upserts: [...BASE, 'config', 'telemetry', 'ann', 'inference', 'features', 'tower', 'rerank', 'generation'],
  retrieval: [
    ...BASE,
    'config',
    'telemetry',
    'ann',
    'inference',
    'features',
    'tower',
    'rerank',
    'generation',
    'upserts',
  ],
  'object-store': [...BASE, 'config', 'generation'],
  registry: [...BASE, 'config', 'inference', 'generation'],
  rebuild: [
    ...BASE,
    'config',
    'telemetry',
    'ann',
    'inference',
    'features',
    'tower',
    'rerank',
    'generation',
    'upserts',
    'object-store',
    'registry',
  ],
  jobs: [...BASE, 'config', 'telemetry', 'ann', 'inference', 'features', 'tower', 'rerank', 'generation', 'upserts'],
  http: [
    ...BASE,
    'access',
    'config',
    'telemetry',
    'ann',
    'inference',
    'features',
    'tower',
    'rerank',
    'generation',
    'upserts',
    'retrieval',
    'rebuild',
  ],
  bench: [
    ...BASE,
    'config',
    'telemetry',
    'ann',
    'inference',
    'features',
    'tower',
    'rerank',
    'generation',
    'upserts',
    'retrieval',
    'jobs',
  ],
  console: [],
  /** For programs elsewhere: nothing of the service, nothing native. */
  client: BASE,
  index: [
    ...BASE,
    'config',
    'telemetry',
    'ann',
    'inference',
    'features',
    'tower',
    'rerank',
    'generation',
    'upserts',
    'retrieval',
    'rebuild',
    'jobs',
    'http',
    'bench',
    'object-store',
    'registry',
  ],
};
MAY_IMPORT.cli = [...(MAY_IMPORT.index as string[]), 'access'];

/** A word → the only folders (or file) whose code may use it. */
const ONLY_IN: [what: string, pattern: RegExp, where: RegExp][] = [
  ['process.env', /\bprocess\.env\b/, /^src\/config\//],
  ['process.exit', /\bprocess\.exit\b/, /^src\/cli\//],
  ['console.*', /\bconsole\.(log|error|warn|info|debug)\b/, /^src\/(cli|console\/web)\//],
  ['onnxruntime-node', /from 'onnxruntime-node'|import\('onnxruntime-node'\)/, /^src\/inference\//],
  ['the .node file', /\.node['"`]/, /^src\/ann\/addon\.ts$/],
  ['a default export', /^export default\b/m, /^$/],
  ['@ts-ignore', /@ts-(ignore|nocheck)/, /^$/],
];

/** Native layers, lowest first: a file may include its own folder and the ones before it. */
const NATIVE_LAYERS = ['core', 'kernels', 'filter', 'index', 'storage', 'binding'];

interface Source {
  path: string;
  text: string;
}

function walk(folder: string, keep: RegExp): Source[] {
  const full = join(root, folder);
  if (!existsSync(full)) return [];
  return readdirSync(full).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(join(root, path)).isDirectory()) return walk(path, keep);
    return keep.test(name) ? [{ path, text: readFileSync(join(root, path), 'utf8') }] : [];
  });
}

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)\s*import\s+['"]([^'"]+)['"]/g;

function importsOf(source: Source): string[] {
  const found: string[] = [];
  for (const match of source.text.matchAll(IMPORT)) {
    const target = (match[1] ?? match[2] ?? match[3]) as string;
    if (target.startsWith('.')) found.push(normalize(join(dirname(source.path), target)).replace(/\.js$/, '.ts'));
  }
  return found;
}

function layerOf(path: string): string {
  const [, first] = path.split('/') as [string, string];
  return first.replace(/\.ts$/, '');
}

function layerOffences(sources: Source[]): string[] {
  return sources.flatMap((source) => {
    const own = layerOf(source.path);
    const allowed = MAY_IMPORT[own];
    if (allowed === undefined) return [`${source.path}: folder ${own} has no layer`];
    return importsOf(source)
      .filter((target) => target.startsWith('src/'))
      .map(layerOf)
      .filter((target) => target !== own && !allowed.includes(target))
      .map((target) => `${source.path} imports ${target}`);
  });
}

function wordOffences(sources: Source[]): string[] {
  return sources.flatMap(({ path, text }) => {
    const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/\/\/.*$/gm, '');
    return ONLY_IN.filter(([, pattern, where]) => pattern.test(code) && !where.test(path)).map(
      ([what]) => `${path} uses ${what}`,
    );
  });
}

function cycles(sources: Source[]): string[] {
  const graph = new Map(sources.map((source) => [source.path, importsOf(source)]));
  const state = new Map<string, 'open' | 'done'>();
  const found: string[] = [];
  const visit = (path: string, trail: string[]): void => {
    if (state.get(path) === 'done') return;
    if (state.get(path) === 'open') {
      found.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
      return;
    }
    state.set(path, 'open');
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    state.set(path, 'done');
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}

function nativeOffences(sources: Source[]): string[] {
  return sources.flatMap(({ path, text }) => {
    const own = NATIVE_LAYERS.indexOf(path.split('/')[1] as string);
    const offences: string[] = [];
    for (const match of text.matchAll(/#include\s+"([^"]+)"/g)) {
      const target = NATIVE_LAYERS.indexOf((match[1] as string).split('/')[0] as string);
      if (own >= 0 && target > own) offences.push(`${path} includes ${match[1]}`);
    }
    if (/\bNapi::|<napi\.h>/.test(text) && !/^native\/(binding\/|addon\.cpp)/.test(path))
      offences.push(`${path} names Napi`);
    if (/\b_mm\d*_|immintrin\.h|_tile_/.test(text) && !path.startsWith('native/kernels/'))
      offences.push(`${path} uses intrinsics`);
    return offences;
  });
}

function deadFiles(sources: Source[]): string[] {
  const entries = [
    'src/index.ts',
    'src/cli/main.ts',
    'src/client/index.ts',
    'src/inference/onnx-worker.ts',
    'src/rebuild/builder.ts',
    'src/console/web/main.ts',
  ];
  const used = new Set([...entries, ...sources.flatMap(importsOf)]);
  return sources.map(({ path }) => path).filter((path) => !used.has(path));
}

const typescript = walk('src', /\.ts$/);
const native = walk('native', /\.(cpp|hpp)$/);

describe('tidy', () => {
  it('has layers that point one way', () => {
    expect(layerOffences(typescript)).toEqual([]);
    expect(layerOffences([{ path: 'src/ann/x.ts', text: "import { app } from '../http/app.js';" }])).toEqual([
      'src/ann/x.ts imports http',
    ]);
    expect(layerOffences([{ path: 'src/http/x.ts', text: "export { run } from '../cli/main.js';" }])).toEqual([
      'src/http/x.ts imports cli',
    ]);
  });

  it('has no import cycles', () => {
    expect(cycles(typescript)).toEqual([]);
    const loop = [
      { path: 'src/ann/a.ts', text: "import { b } from './b.js';" },
      { path: 'src/ann/b.ts', text: "import { a } from './a.js';" },
    ];
    expect(cycles(loop)).toEqual(['src/ann/a.ts → src/ann/b.ts → src/ann/a.ts']);
  });

  it('keeps process, console, models and the addon in their folders', () => {
    expect(wordOffences(typescript)).toEqual([]);
    expect(
      wordOffences([{ path: 'src/ann/x.ts', text: 'const home = process.env.HOME;\nexport default home;' }]),
    ).toEqual(['src/ann/x.ts uses process.env', 'src/ann/x.ts uses a default export']);
  });

  it('has native layers that point one way, Napi in binding, intrinsics in kernels', () => {
    expect(nativeOffences(native)).toEqual([]);
    expect(
      nativeOffences([
        { path: 'native/core/x.hpp', text: '#include "index/exact.hpp"\n#include <napi.h>\n_mm512_setzero_ps();' },
      ]),
    ).toEqual([
      'native/core/x.hpp includes index/exact.hpp',
      'native/core/x.hpp names Napi',
      'native/core/x.hpp uses intrinsics',
    ]);
  });

  it('has no dead files', () => {
    expect(deadFiles(typescript)).toEqual([]);
    expect(deadFiles([{ path: 'src/ann/lonely.ts', text: '' }])).toEqual(['src/ann/lonely.ts']);
  });

  it(`has no file over ${FILE_LINES_MAX} lines`, () => {
    const code = [
      ...typescript,
      ...native,
      ...walk('test', /\.(ts|cpp|hpp)$/),
      ...walk('bench', /\.(mjs|ts|py)$/).filter(({ path }) => !path.startsWith('bench/data/')),
      ...walk('scripts', /\.mjs$/),
      ...walk('test/crash', /\.mjs$/),
    ].filter(({ path }) => path !== 'src/client/api.ts'); // written by a script
    const long = code.filter(({ text }) => text.split('\n').length > FILE_LINES_MAX).map(({ path }) => path);
    expect(long).toEqual([]);
  });

  it('names in its documents only npm scripts and files that exist', () => {
    const scripts = Object.keys(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts);
    const documents = readdirSync(root).filter((name) => name.endsWith('.md'));
    const missing = documents.flatMap((name) => {
      const text = readFileSync(join(root, name), 'utf8');
      const unknownScripts = [...text.matchAll(/npm run (?:-s )?([a-z][a-z:-]*)/g)]
        .map((match) => match[1] as string)
        .filter((script) => !scripts.includes(script));
      const deadLinks = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
        .map((match) => match[1] as string)
        .filter((target) => !existsSync(join(root, target)));
      return [...unknownScripts, ...deadLinks].map((what) => `${name}: ${what}`);
    });
    expect(missing).toEqual([]);
  });

  it('ties every error code to one use at least', () => {
    const table = readFileSync(join(root, 'src/errors.ts'), 'utf8');
    const codes = [...table.matchAll(/^ {2}(BELFRY_[A-Z_]+):/gm)].map((match) => match[1] as string);
    const all = [...typescript.filter(({ path }) => path !== 'src/errors.ts'), ...native]
      .map(({ text }) => text)
      .join('\n');
    const uses = new Set(
      [...all.matchAll(/(?<!\.env\()['"](BELFRY_[A-Z_]+[A-Z])['"]/g)].map((match) => match[1] as string),
    );
    expect(codes.filter((code) => !uses.has(code))).toEqual([]);
    expect([...uses].filter((code) => !codes.includes(code))).toEqual([]);
  });
});
