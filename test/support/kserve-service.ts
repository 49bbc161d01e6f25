/** A service over a tiny export whose only reranker runs on a model server. */
import { rmSync } from 'node:fs';
import type { ModelServerSettings } from '../../src/config/model-servers.js';
import type { OnRerankerState } from '../../src/rerank/guarded-reranker.js';
import { makeModelsFolder, randomValues, temporaryFolder } from './folders.js';
import { type FakeOptions, KserveFake } from './kserve-fake.js';
import { type Service, startService } from './service.js';

const DIMS = 8;

/** `dense` is the retrieval score and rank: the fake scores by the first of them. */
export const REGISTRY = `models:
  - model: DCN-v2
    version: "0.9"
    format: torchscript
    path: dcn.pt
    stage: production
    role: reranker
    server: { version: "1" }
    inputs:
      dense:
        dtype: float32
        pack:
          - { source: retrieval.score }
          - { source: retrieval.rank }
      item_embedding: { dtype: float32, source: item_embedding }
    output: score
`;

export const INPUTS: FakeOptions['inputs'] = [
  { name: 'dense', datatype: 'FP32', shape: [-1, 2] },
  { name: 'item_embedding', datatype: 'FP32', shape: [-1, DIMS] },
];

export function modelsFolder(registry = REGISTRY, files: Record<string, string> = {}): string {
  return makeModelsFolder(temporaryFolder({ keep: true }), {
    items: { data: randomValues(200 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(10 * DIMS, 2), dims: DIMS },
    files: { 'dcn.pt': 'TorchScript, which no one reads here', 'registry.yaml': registry, ...files },
  });
}

export interface KserveService extends Service {
  readonly fake: KserveFake;
  /** Of the breaker, in order. */
  readonly states: { readonly state: string; readonly at: number; readonly cause: Error | undefined }[];
  ask(body?: object): Promise<KserveAnswer>;
}

export interface KserveAnswer {
  readonly status: number;
  /** Of an error. */
  readonly body: string;
  readonly degraded: string[];
  readonly ids: number[];
  readonly items: { id: number; score: number; retrieval_score: number }[];
  readonly reranker: string | undefined;
  readonly ms: number;
}

export async function startKserveService(
  options: {
    fake?: Partial<FakeOptions>;
    server?: Partial<ModelServerSettings>;
    isDown?: boolean;
    registry?: string;
    /** Further files of the models folder. */
    files?: Record<string, string>;
  } = {},
): Promise<KserveService> {
  const fake = await KserveFake.start({ inputs: INPUTS, ...options.fake });
  if (options.isDown === true) await fake.stop();
  const models = modelsFolder(options.registry, options.files);
  const states: KserveService['states'] = [];
  const onRerankerState: OnRerankerState = (_, state, cause) =>
    void states.push({ state, at: performance.now(), cause });
  const service = await startService(models, {
    // The first contact with a server takes long on a busy machine, too.
    load: { modelServers: [{ name: 'default', url: fake.url, timeoutMs: 2000, ...options.server }], onRerankerState },
    // A machine that is busy with other tests is not what these are about.
    settings: { loop_delay_max_ms: 10_000 },
  });
  return {
    ...service,
    fake,
    states,
    async ask(body = {}) {
      const started = performance.now();
      const response = await service.post('/retrieve', { user_id: 3, k: 5, candidates: 40, rerank: true, ...body });
      const answer = response.json();
      return {
        status: response.statusCode,
        body: response.statusCode === 200 ? '' : response.body,
        degraded: answer.degraded,
        items: answer.items,
        ids: answer.items?.map(({ id }: { id: number }) => id),
        reranker: answer.models?.reranker,
        ms: performance.now() - started,
      };
    },
    async close() {
      await service.close();
      await fake.stop();
      rmSync(models, { recursive: true, force: true });
    },
  };
}
