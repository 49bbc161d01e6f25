/**
 * The process that the crash loop kills: starts as a server does on a data folder that was left by a kill, says what it
 * serves and answers, then builds, rolls back, collects and changes items until it dies. Each line that it prints is JSON
 * and is written to the pipe at once: what the parent has read has happened. It works after a word on its standard input.
 *
 * Arguments: data folder, exports folder, seed, operations (`build:2,put,rollback`), `once` or `forever`.
 */
import { once } from 'node:events';
import { appendFileSync, readdirSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { DataFolder } from '../../dist/generation/data-folder.js';
import { GenerationFollower } from '../../dist/generation/follower.js';
import { GenerationStore } from '../../dist/generation/store.js';
import { fillRetrieve } from '../../dist/retrieval/request.js';
import { Retriever } from '../../dist/retrieval/retriever.js';
import { Metrics } from '../../dist/telemetry/metrics.js';
import { buildGeneration } from '../../dist/upserts/build.js';
import { ItemUpserts } from '../../dist/upserts/item-upserts.js';
import { DIMS, queries, randomVector, seeded } from './judge.mjs';

const [path, exports, seed, operations, mode] = process.argv.slice(2);
const random = seeded(Number(seed));
const trace = /trace=([^,]+)/.exec(process.env.BELFRY_FAULTS ?? '')?.[1];
const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);
const pick = (list) => list[Math.floor(random() * list.length)];
const mark = (what) => trace !== undefined && appendFileSync(trace, `# ${what}\n`);

mark('start');
const data = await DataFolder.open(path);
await data.cleanUp();
const store = new GenerationStore();
const metrics = new Metrics();
const notices = [];
const upserts = await ItemUpserts.open({
  data: path,
  store,
  metrics,
  fsync: 'always',
  logBytes: 1 << 30,
  onNotice: (message) => notices.push(message),
});
const retriever = new Retriever(store, metrics, undefined, upserts);
const follower = new GenerationFollower({
  data,
  store,
  load: { threads: 1 },
  canary: async (generation) => {
    await upserts.prepare(generation);
  },
});
await follower.start();
const first = store.peek()?.id;
await follower.check();
if (store.peek()?.id !== first) throw new Error('a second look at CURRENT changed what serves');
await upserts.follow();
const answers = [];
if (first !== undefined) {
  for (const vector of queries()) {
    const source = { kind: 'embedding', vector: [...vector] };
    const request = fillRetrieve({ source, k: 1000, exact: true, timeoutMs: 60_000 });
    const { items, generation, degraded } = await retriever.retrieve(request);
    answers.push({ generation, degraded, items: items.map(({ id, retrieval_score: score }) => [id, score]) });
  }
}
const problem = follower.problem ?? upserts.problem;
say({
  up: { serving: first ?? null, problem: problem && `${problem.code} ${problem.message}`, answers, notices },
});

await once(process.stdin, 'data'); // the parent looks at the data folder first

const build = (name, more = {}) =>
  buildGeneration({
    models: join(exports, name),
    data: path,
    overrides: ['input', 'recall', 'canaries'], // these exports have nothing to do with each other
    threads: 1,
    ...more,
  });

const OPERATIONS = {
  build: (name) => [{ export: name }, async () => (await build(name)).id],
  /** A build that ends halfway. */
  cancel: (name) => [
    { export: name },
    async () => {
      const stop = new AbortController();
      const onProgress = ({ stage }) => stage.startsWith('ids') && stop.abort(new Error('cancelled'));
      return build(name, { signal: stop.signal, onProgress }).then(
        () => 'published',
        (error) => error.message,
      );
    },
  ],
  rollback: () => [{}, async () => (await data.rollback()).id],
  activate: async () => {
    const serving = await data.pointed();
    const target = pick((await data.ids()).filter((id) => id !== serving));
    return [{ target }, async () => target && (await data.activate(target)).id];
  },
  put: () => {
    const id = `item-${Math.floor(random() * 100)}`;
    const vector = randomVector(random, DIMS);
    return [{ id, vector: [...vector] }, () => upserts.put(id, { embedding: [...vector] })];
  },
  delete: () => {
    const id = `item-${Math.floor(random() * 100)}`;
    return [{ id }, () => upserts.delete(id)];
  },
  /** A bit of another generation flips, which somebody notices. */
  corrupt: async () => {
    const serving = await data.pointed();
    const target = (await data.ids()).find((id) => id !== serving);
    return [
      { target },
      async () => {
        const file = await open(join(data.folderOf(target), 'embeddings', 'item_embeddings.npy'), 'r+');
        const byte = Buffer.alloc(1);
        await file.read(byte, 0, 1, 200);
        await file.write(Buffer.from([byte[0] ^ 1]), 0, 1, 200);
        await file.close();
        return data.quarantine(target);
      },
    ];
  },
  /** What a damaged generation of the life before waits for. */
  quarantine: () => [{}, async () => Promise.all((await data.ids()).map((id) => data.quarantine(id)))],
  swap: () => [{}, () => follower.check()],
};

do {
  for (const word of operations.split(',')) {
    const [name, argument] = word.split(':');
    mark(word);
    const [what, run] = await OPERATIONS[name](argument);
    say({ begin: { operation: name, ...what } });
    try {
      say({ end: { operation: name, result: (await run()) ?? null } });
    } catch (error) {
      say({ failed: { operation: name, code: error.code ?? null, message: error.message } });
    }
  }
} while (mode === 'forever');
await follower.close();
await upserts.close();
await store.close();
say({ done: readdirSync(path) });
process.exit(0);
