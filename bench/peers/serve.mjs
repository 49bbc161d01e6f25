// One JavaScript engine in a process of its own, the twin of python/serve.py: builds its index into a cache folder, or loads
// it and answers trials, one JSON line each.
//   node serve.mjs build '<task>'     node serve.mjs serve '<task>'
// task: { adapter, folder, items, queries, query_count, users, metric, params, threads, paths, dims, rows }
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readNpy } from '../datasets/npy.mjs';

const [operation, text] = process.argv.slice(2);
const task = JSON.parse(text);

/** Resident bytes: anonymous (with shared and huge pages), and pages of mapped files. */
function resident() {
  const status = readFileSync('/proc/self/status', 'utf8');
  const bytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return { anonymous: bytes('RssAnon') + bytes('RssShmem') + bytes('HugetlbPages'), mapped: bytes('RssFile') };
}

function settle() {
  for (let i = 0; i < 3; i++) globalThis.gc();
  return resident();
}

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

/** All queries, again and again until the time is used up; the lists of the last round are the answer. */
async function rounds(search, count, seconds) {
  const lists = new Array(count);
  const limit = BigInt(Math.round(seconds * 1e9));
  const start = process.hrtime.bigint();
  let done = 0;
  let elapsed = 0n;
  while (done === 0 || elapsed < limit) {
    if (search.one !== undefined)
      for (let q = 0; q < count; q++) lists[q] = search.one(q) ?? (await search.oneLater(q));
    else if (search.oneLater !== undefined) for (let q = 0; q < count; q++) lists[q] = await search.oneLater(q);
    else {
      for (let first = 0; first < count; first += search.batch) {
        const size = Math.min(search.batch, count - first);
        const got = await search.many(first, size);
        for (let i = 0; i < size; i++) lists[first + i] = got(i);
      }
    }
    done += count;
    elapsed = process.hrtime.bigint() - start;
  }
  return { lists, queries: done, seconds: Number(elapsed) / 1e9 };
}

async function measure(engine, trial) {
  const search = await engine.search(trial.params, trial.k);
  // Whole batches only, so that each call costs the same.
  const count =
    search.batch === undefined
      ? task.query_count
      : Math.max(1, Math.floor(task.query_count / search.batch)) * search.batch;
  const counted = Math.min(count, task.query_count);
  await rounds(search, Math.min(counted, search.batch ?? 50), 0); // warm
  const { lists, queries, seconds } = await rounds(search, counted, trial.seconds);
  const rows = new Int32Array(counted * trial.k).fill(-1);
  lists.forEach((list, q) => {
    for (let i = 0; i < Math.min(list.length, trial.k); i++) rows[q * trial.k + i] = Number(list[i]);
  });
  writeFileSync(trial.out, rows);
  // Garbage of the answers is this process's, not the index's.
  lists.length = 0;
  return { queries, seconds, resident: settle(), ...(engine.report?.() ?? {}) };
}

/** An engine that measures itself. */
async function ownTrial(engine, trial) {
  const said = await engine.trial(trial.params, trial.k);
  return { ...said, resident: { anonymous: engine.wholeProcess(), mapped: 0 } };
}

const { open } = await import(`./${task.adapter}.mjs`);
const engine = await open(task);
if (operation === 'build') {
  mkdirSync(task.folder, { recursive: true });
  const start = performance.now();
  const said = await engine.build();
  const { user, system } = process.cpuUsage();
  const report = {
    build_s: (performance.now() - start) / 1000,
    build_cpu_s: (user + system) / 1e6,
    threads: task.threads,
    version: engine.version,
    ...said,
  };
  writeFileSync(join(task.folder, 'build.json.tmp'), JSON.stringify(report));
  renameSync(join(task.folder, 'build.json.tmp'), join(task.folder, 'build.json'));
} else {
  const queries = readNpy(task.queries, 0, task.query_count);
  engine.prepare?.(queries);
  const before = settle();
  await engine.load(queries);
  say({ ready: true, before, after: settle(), own_bytes: engine.ownBytes?.() ?? null });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const trial = JSON.parse(line);
      say(engine.trial === undefined ? await measure(engine, trial) : await ownTrial(engine, trial));
    } catch (error) {
      say({ error: error.message }); // the trial fails, with its reason, not the engine
    }
  }
}
process.exit(0);
