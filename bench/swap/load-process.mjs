// The load of the swap bench, in a process of its own: a fixed number of connections, each sending its next request when
// the last is answered. Told by messages what the time is called; answers with what came back.
//   { start: { address, connections, users } }, { phase: name }, { stop: true } -> the result
import { Pool } from 'undici';
import { Random } from '../datasets/random.mjs';
import { titleOf, userId } from './generations.mjs';

const K = 10;
/** One answer in so many is kept, to be compared with brute force afterwards. */
const KEPT_SHARE = 50;
const KEPT_MAX = 20_000;

const latencies = {}; // by phase, milliseconds
const generations = new Map();
const failures = [];
const kept = [];
const mixed = [];
let sent = 0;
let phase = 'none';
let isStopping = false;
let lanes = [];
let pool;

async function lane(number, users) {
  const random = new Random(7, number);
  while (!isStopping) {
    const user = random.integer(users);
    const filter = random.integer(20) === 0 ? { must: [{ field: 'price', lt: 500 }] } : undefined;
    const body = JSON.stringify({
      user_id: userId(user),
      k: K,
      with_metadata: ['title', 'price'],
      timeout_ms: 1000,
      filter,
    });
    const begun = phase;
    const started = performance.now();
    try {
      const answer = await pool.request({
        path: '/retrieve',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      });
      const text = await answer.body.text();
      const took = performance.now() - started;
      if (answer.statusCode !== 200) failures.push(`${answer.statusCode} ${text}`);
      else {
        (latencies[begun] ??= []).push(took);
        look(JSON.parse(text), user, filter);
      }
    } catch (error) {
      failures.push(String(error));
    }
  }
}

/** Every answer: ids and titles of one generation. A share of them is kept. */
function look({ generation, items, degraded }, user, filter) {
  sent++;
  const [first] = items;
  const side = first?.id.slice(0, 1);
  const isWhole =
    items.length === K &&
    degraded.length === 0 &&
    items.every(
      ({ id, metadata }) =>
        id.startsWith(`${side}-`) && metadata.title === titleOf(id) && (filter === undefined || metadata.price < 500),
    );
  if (!isWhole) mixed.push({ generation, items, degraded });
  const seen = generations.get(generation) ?? { answers: 0, sides: [] };
  seen.answers++;
  if (!seen.sides.includes(side)) seen.sides.push(side);
  generations.set(generation, seen);
  if (filter === undefined && sent % KEPT_SHARE === 0 && kept.length < KEPT_MAX)
    kept.push({ generation, user, items: items.map(({ id, score }) => [id, score]) });
}

process.on('disconnect', () => process.exit()); // the bench is gone
process.on('message', async (message) => {
  if ('start' in message) {
    const { address, connections, users } = message.start;
    pool = new Pool(address, { connections, pipelining: 1 });
    lanes = Array.from({ length: connections }, (_, number) => lane(number, users));
  } else if ('phase' in message) {
    phase = message.phase;
  } else {
    isStopping = true;
    await Promise.all(lanes);
    await pool.close();
    process.send(
      {
        latencies,
        failures: failures.slice(0, 10),
        failed: failures.length,
        mixed: mixed.slice(0, 3),
        mixedCount: mixed.length,
        kept,
        generations: [...generations],
      },
      () => process.disconnect(),
    );
  }
});
