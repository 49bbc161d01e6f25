// Flags of the index bench. What is not understood is refused, with what would be.
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { ENGINES } from '../trials.mjs';

const OPTIONS = {
  dataset: { type: 'string', default: 'glove' },
  items: { type: 'string' },
  users: { type: 'string' },
  queries: { type: 'string' },
  metric: { type: 'string' },
  engines: { type: 'string', default: 'belfry,hnswlib-node' },
  recall: { type: 'string', default: '0.9,0.95,0.99' },
  k: { type: 'string', default: '10' },
  'query-count': { type: 'string', default: '2000' },
  repeats: { type: 'string', default: '3' },
  seconds: { type: 'string', default: '1' },
  cpu: { type: 'string' },
  'build-threads': { type: 'string' },
  filters: { type: 'string' },
  batch: { type: 'boolean', default: false },
  scale: { type: 'string' },
  out: { type: 'string' },
  parlayann: { type: 'string' },
  glass: { type: 'string' },
  'builds-only': { type: 'boolean', default: false },
  cached: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
};

export class FlagError extends Error {}

function number(name, text, { min, max, integer = false }) {
  const value = Number(text);
  if (
    text.trim() === '' ||
    !Number.isFinite(value) ||
    value < min ||
    value > max ||
    (integer && !Number.isInteger(value))
  ) {
    throw new FlagError(
      `--${name}: expected ${integer ? 'an integer' : 'a number'} from ${min} to ${max}, not '${text}'`,
    );
  }
  return value;
}

function list(name, text, bounds) {
  return text.split(',').map((part) => number(name, part, bounds));
}

/** @param {string[]} args @returns the settings of a run @throws FlagError that names the flag and what it takes */
export function parseFlags(args, cpuCount = cpus().length) {
  let values;
  try {
    ({ values } = parseArgs({ args, options: OPTIONS }));
  } catch (error) {
    throw new FlagError(error.message);
  }
  const engines = values.engines === 'all' ? Object.keys(ENGINES) : values.engines.split(',');
  for (const engine of engines) {
    if (!(engine in ENGINES)) {
      throw new FlagError(`--engines: no engine '${engine}'; there are ${Object.keys(ENGINES).join(', ')}, or all`);
    }
  }
  if (new Set(engines).size !== engines.length) throw new FlagError('--engines: an engine is named twice');
  if ((values.items === undefined) !== (values.queries === undefined)) {
    throw new FlagError('--items and --queries go together: two .npy files');
  }
  if (values.items !== undefined && !['ip', 'cosine', 'l2'].includes(values.metric ?? '')) {
    throw new FlagError(`--metric: with --items, one of ip, cosine, l2 is needed, not '${values.metric ?? ''}'`);
  }
  for (const name of ['items', 'queries', 'users', 'parlayann', 'glass']) {
    if (values[name] !== undefined && !existsSync(values[name]))
      throw new FlagError(`--${name}: ${values[name]} is not there`);
  }
  const k = number('k', values.k, { min: 1, max: 100, integer: true });
  return {
    dataset: values.dataset,
    pair: values.items && { items: values.items, queries: values.queries, users: values.users, metric: values.metric },
    engines,
    recalls: list('recall', values.recall, { min: 0.01, max: 1 }).sort((a, b) => a - b),
    k,
    queryCount: number('query-count', values['query-count'], { min: 10, max: 5000, integer: true }),
    repeats: number('repeats', values.repeats, { min: 1, max: 99, integer: true }),
    seconds: number('seconds', values.seconds, { min: 0.01, max: 600 }),
    cpu:
      values.cpu === undefined ? cpuCount - 1 : number('cpu', values.cpu, { min: 0, max: cpuCount - 1, integer: true }),
    buildThreads:
      values['build-threads'] === undefined
        ? cpuCount
        : number('build-threads', values['build-threads'], { min: 1, max: 1024, integer: true }),
    filters: values.filters === undefined ? [] : list('filters', values.filters, { min: 1e-6, max: 1 }),
    batch: values.batch,
    scale: values.scale === undefined ? [] : values.scale.split(','),
    out: values.out,
    paths: { parlayann: values.parlayann, glass: values.glass },
    buildsOnly: values['builds-only'],
    cached: values.cached,
    json: values.json,
  };
}
