/** Exact answers in this process, from the generations of a data folder: what a load's answers are judged by. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import type { ExactAnswers, ScoredItem } from '../bench/load/truth.js';
import { DEFAULTS } from '../config/schema.js';
import { BelfryError } from '../errors.js';
import { DataFolder } from '../generation/data-folder.js';
import { Generation } from '../generation/generation.js';
import { GenerationStore } from '../generation/store.js';
import { buildApp } from '../http/app.js';
import { Retriever } from '../retrieval/retriever.js';
import { Metrics } from '../telemetry/metrics.js';
import { VERSION } from '../version.js';

const TRIES = 40;
const TRY_AGAIN_MS = 250;

interface Opened {
  readonly app: FastifyInstance;
  readonly store: GenerationStore;
}

/** Opens a generation when it is first asked for. */
export class ExactGenerations implements ExactAnswers {
  readonly #opened = new Map<string, Promise<Opened | undefined>>();

  private constructor(private readonly data: DataFolder) {}

  /** Error: BELFRY_BENCH_TRUTH where the folder has no generation. */
  static async of(folder: string): Promise<ExactGenerations> {
    const data = await DataFolder.open(folder);
    if ((await data.ids()).length > 0) return new ExactGenerations(data);
    throw new BelfryError(
      'BELFRY_BENCH_TRUTH',
      `--data: ${folder} holds no generation; name the data folder of the server`,
      {
        field: '--data',
      },
    );
  }

  /** Errors: BELFRY_BENCH_TRUTH where the exact path refuses what the server has answered. */
  async ask(generation: string, body: object): Promise<readonly ScoredItem[] | undefined> {
    let opening = this.#opened.get(generation);
    if (opening === undefined) {
      opening = this.#open(generation);
      this.#opened.set(generation, opening);
    }
    const opened = await opening;
    if (opened === undefined) return undefined;
    const headers = { 'content-type': 'application/json' };
    const ask = () => opened.app.inject({ method: 'POST', url: '/retrieve', headers, payload: JSON.stringify(body) });
    let answer = await ask();
    // Nobody waits for a judge: where the machine is too busy for its admission, it asks again.
    for (let tries = 1; answer.statusCode === 503 && tries < TRIES; tries++) {
      await sleep(TRY_AGAIN_MS);
      answer = await ask();
    }
    if (answer.statusCode === 200) return (JSON.parse(answer.body) as { items: ScoredItem[] }).items;
    throw new BelfryError(
      'BELFRY_BENCH_TRUTH',
      `the exact path answers ${answer.statusCode}: ${answer.body.slice(0, 300)}`,
    );
  }

  async #open(id: string): Promise<Opened | undefined> {
    if (!(await this.data.ids()).includes(id)) return undefined;
    const generation = await Generation.load({
      id,
      folder: this.data.folderOf(id),
      manifest: await this.data.verify(id),
    });
    const store = new GenerationStore(generation);
    const metrics = new Metrics();
    const app = await buildApp({
      // A popular list is no truth: what takes too long fails.
      retriever: new Retriever(store, metrics, undefined, undefined, undefined, { ...DEFAULTS, degrade: false }),
      metrics,
      settings: DEFAULTS,
      version: VERSION,
    });
    return { app, store };
  }

  async close(): Promise<void> {
    for (const opening of this.#opened.values()) {
      const opened = await opening;
      await opened?.app.close();
      await opened?.store.close();
    }
  }
}
