// Queries per second at equal recall of Belfry's index and its peers. See bench/README.md.
//   npm run -s bench:index -- --dataset glove --engines belfry,hnswlib-node --recall 0.95 --json
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { loadAddon } from '../dist/ann/addon.js';
import { npyHeader, readNpy } from './datasets/npy.mjs';
import { openDataset } from './index/dataset.mjs';
import { FlagError, parseFlags } from './index/flags.mjs';
import { plots } from './index/plot.mjs';
import { thresholds } from './index/recall.mjs';
import { markdown, text } from './index/report.mjs';
import { ratiosOf, Session } from './index/session.mjs';
import { batchStudy, filterStudy, scaleStudy } from './index/studies.mjs';
import { truthOf, truthPathOf, WIDTH } from './index/truth.mjs';

const here = new URL('.', import.meta.url);

function machine(settings) {
  const { cpu, kernels } = loadAddon();
  return {
    cpu: cpu.model,
    features: cpu.features,
    kernels,
    cpus: cpus().length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    os: `${process.platform} ${release()}`,
    pinned_to: settings.cpu,
    search_threads: 1,
  };
}

function versions() {
  const git = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: here, encoding: 'utf8' });
  return {
    belfry: JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version,
    commit: git.status === 0 ? git.stdout.trim() : null,
    node: process.version,
  };
}

/** One data set: its description, the session's summary, and the studies asked for. */
async function runOn(settings, extras = true) {
  const dataset = await openDataset(settings).catch((error) => {
    throw new FlagError(error.message, { cause: error });
  });
  const queryCount = Math.min(settings.queryCount, dataset.queryRows);
  const fitted = { ...settings, queryCount };
  const items = readNpy(dataset.items);
  const queries = readNpy(dataset.queries, 0, queryCount);
  const truth = await truthOf(dataset, items, queries, queryCount);
  const kth = thresholds({ ...dataset, items, queries, truth, width: WIDTH, count: queryCount, k: settings.k });
  const truthPath = truthPathOf(dataset, queryCount);
  const session = new Session({ settings: fitted, dataset, items, queries, kth, truth, truthWidth: WIDTH, truthPath });
  try {
    await session.start();
    if (!settings.buildsOnly) await session.measure();
    const engines = session.summary();
    const described = {
      name: dataset.name,
      metric: dataset.metric,
      rows: dataset.rows,
      dims: dataset.dims,
      queries: queryCount,
      training_users: dataset.users === null ? 0 : npyHeader(dataset.users).rows,
      sha256: dataset.hash,
    };
    return {
      dataset: described,
      engines,
      ratios: ratiosOf(engines, settings.recalls),
      ...(extras && settings.batch ? { batch: await batchStudy(session, engines) } : {}),
      ...(extras && settings.filters.length > 0 ? { filters: await filterStudy(session) } : {}),
      trials: session.trials,
    };
  } finally {
    await session.stop();
  }
}

async function scale(settings) {
  return scaleStudy(settings.scale, settings.recalls, async (size) => {
    const one = { ...settings, pair: undefined, dataset: `two-tower-${size}-d128`, engines: ['belfry'] };
    const { dataset, engines } = await runOn(one, false);
    const { belfry } = engines;
    if (belfry.absent !== undefined) throw new Error(`--scale ${size}: ${belfry.absent}`);
    const { build_s, build_threads, bytes_per_item, qps_at_recall } = belfry;
    return { rows: dataset.rows, build_s, build_threads, bytes_per_item, qps_at_recall };
  });
}

try {
  const settings = parseFlags(process.argv.slice(2));
  const { trials, ...found } =
    settings.scale.length > 0 ? { scale: await scale(settings), trials: [] } : await runOn(settings);
  const report = {
    bench: 'index',
    machine: machine(settings),
    versions: versions(),
    k: settings.k,
    recalls: settings.recalls,
    repeats: settings.repeats,
    bytes:
      'growth of resident memory (RssAnon, RssShmem, huge pages) from before loading to after the first trial, per item; pages of mapped files apart',
    ...found,
  };
  if (settings.out !== undefined) {
    mkdirSync(settings.out, { recursive: true });
    writeFileSync(join(settings.out, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
    writeFileSync(join(settings.out, 'trials.jsonl'), trials.map((trial) => `${JSON.stringify(trial)}\n`).join(''));
    writeFileSync(join(settings.out, 'report.md'), markdown(report));
    for (const [name, svg] of Object.entries(plots(report))) writeFileSync(join(settings.out, `${name}.svg`), svg);
  }
  process.stdout.write(settings.json ? `${JSON.stringify(report, null, 2)}\n` : text(report));
} catch (error) {
  process.stderr.write(`bench: ${error instanceof FlagError ? error.message : (error.stack ?? error)}\n`);
  process.exitCode = 1;
}
