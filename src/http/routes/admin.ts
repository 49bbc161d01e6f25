/** /admin: build, look at and choose generations. For operators: refusals say why, which other routes leave to the log. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyError } from 'fastify';
import { Type } from 'typebox';
import { withoutFolders } from '../../config/secrets.js';
import { asBelfryError, BelfryError } from '../../errors.js';
import { GATE_NAMES } from '../../generation/gates/gate.js';
import { newestFirst } from '../../generation/list-generations.js';
import { readManifest } from '../../generation/manifest.js';
import { BuildRecordSchema, TRIGGERS } from '../../rebuild/history.js';
import { sendError } from '../errors.js';
import type { AppParts } from '../parts.js';
import { ErrorAnswer, GenerationId } from '../schemas.js';
import { reportRoutes } from './reports.js';

const strict = <T extends Parameters<typeof Type.Object>[0]>(properties: T) =>
  Type.Object(properties, { additionalProperties: false });

const RebuildBody = strict({
  force: Type.Optional(Type.Boolean({ description: 'Build even when the export has not changed.' })),
  overrides: Type.Optional(
    Type.Array(Type.Enum(GATE_NAMES), {
      description: 'Gates that may fail; the generation is published all the same, and its manifest says so.',
    }),
  ),
});
const Problem = strict({ code: Type.String(), message: Type.String() });
const Running = strict({
  trigger: Type.Enum(TRIGGERS),
  stage: Type.String(),
  done: Type.Number(),
  total: Type.Number(),
  seconds: Type.Number(),
  eta_seconds: Type.Union([Type.Number(), Type.Null()], {
    description: 'Seconds that are left, judged by the build before; null for the first one.',
  }),
});
const RebuildAnswer = strict({
  state: Type.Enum(['idle', 'running', 'elsewhere'], {
    description: 'elsewhere: another process builds into the same data folder.',
  }),
  running: Type.Optional(Running),
  process: Type.Optional(Type.Integer({ description: 'Process id of the builder elsewhere.' })),
  problem: Type.Optional(Problem),
  next_scheduled: Type.Optional(Type.String()),
  builds: Type.Array(BuildRecordSchema, { description: 'The last 50, newest first.' }),
});
const GenerationsAnswer = strict({
  current: Type.Union([Type.String(), Type.Null()], { description: 'What CURRENT names.' }),
  previous: Type.Union([Type.String(), Type.Null()], { description: 'What a rollback goes to.' }),
  serving: Type.Union([Type.String(), Type.Null()], { description: 'What this process serves.' }),
  generations: Type.Array(
    strict({
      id: Type.String(),
      created: Type.Optional(Type.String()),
      items: Type.Optional(Type.Integer()),
      users: Type.Optional(Type.Integer()),
      bytes: Type.Optional(Type.Integer()),
      models: Type.Optional(Type.Array(Type.String())),
      problem: Type.Optional(Problem),
    }),
    { description: 'Newest first.' },
  ),
  quarantined: Type.Array(
    strict({ id: Type.String(), since: Type.Optional(Type.String()), reason: Type.Optional(Type.String()) }),
  ),
});
const ActivateAnswer = strict({
  current: Type.String(),
  serving: Type.Union([Type.String(), Type.Null()]),
  problem: Type.Optional(Problem),
});

const RecallFacts = strict({
  samples: Type.Integer(),
  recall: Type.Number({ description: 'Mean recall, counted by score: what ties with the last exact hit is found.' }),
  low: Type.Number({ description: '95 % interval of the mean.' }),
  high: Type.Number(),
  below_expected: Type.Integer({ description: 'Samples below what the calibration promises on average.' }),
  expected: Type.Optional(Type.Number({ description: 'Mean of what the calibration promises.' })),
});
const RecallAnswer = strict({
  share: Type.Number({ description: 'Of the searches; 0 where no samples are taken.' }),
  gap_ms: Type.Integer(),
  generation: Type.Union([Type.String(), Type.Null()]),
  all: Type.Optional(RecallFacts),
  by_path: Type.Record(Type.String(), RecallFacts),
  dropped: Type.Integer({
    description: 'Samples without a measurement: no idle moment came, or the generation changed.',
  }),
});
const NO_SAMPLES = { share: 0, gap_ms: 0, generation: null, by_path: {}, dropped: 0 };

export const adminRoutes: FastifyPluginAsyncTypebox<AppParts> = async (app, parts) => {
  const { admin, retriever, metrics } = parts;
  if (admin === undefined) return;
  const { data, rebuilder, follower } = admin;

  // What an operator asked for and cannot have is a conflict with the state of things, and the reason is for him to read.
  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (error instanceof BelfryError) error.message = withoutFolders(error.message);
    return sendError(error, request, reply, metrics, 409);
  });

  await app.register(reportRoutes, { data });

  const rebuild = async () => {
    const running = rebuilder.view();
    const process = running === undefined ? await rebuilder.builtElsewhere() : undefined;
    const { problem } = rebuilder;
    const next = admin.nextScheduled?.();
    return {
      state:
        running !== undefined
          ? ('running' as const)
          : process !== undefined
            ? ('elsewhere' as const)
            : ('idle' as const),
      ...(running === undefined ? {} : { running }),
      ...(process === undefined ? {} : { process }),
      ...(problem === undefined ? {} : { problem: { code: problem.code, message: problem.message } }),
      ...(next === undefined || next === null ? {} : { next_scheduled: next.toISOString() }),
      builds: await rebuilder.builds(),
    };
  };

  app.post(
    '/admin/rebuild',
    {
      schema: {
        summary: 'Build a generation from the models folder and publish it',
        description:
          'Answers at once; GET /admin/rebuild tells how far it is. One build at a time, also across processes.',
        tags: ['admin'],
        body: RebuildBody,
        response: { 202: RebuildAnswer, default: ErrorAnswer },
      },
      // The body may be left out.
      preValidation: async (request) => {
        request.body ??= {};
      },
    },
    async (request, reply) => {
      await rebuilder.start('api', request.body);
      return reply.code(202).send(await rebuild());
    },
  );

  app.get(
    '/admin/rebuild',
    {
      schema: {
        summary: 'The running build, and the last ones',
        tags: ['admin'],
        response: { 200: RebuildAnswer, default: ErrorAnswer },
      },
    },
    rebuild,
  );

  app.delete(
    '/admin/rebuild',
    {
      schema: {
        summary: 'Cancel the running build; nothing of it stays',
        tags: ['admin'],
        response: { 200: BuildRecordSchema, default: ErrorAnswer },
      },
    },
    () => rebuilder.cancel(),
  );

  app.get(
    '/admin/generations',
    {
      schema: {
        summary: 'The generations of the data folder',
        tags: ['admin'],
        response: { 200: GenerationsAnswer, default: ErrorAnswer },
      },
    },
    async () => {
      const { current = null, previous = null } = await data.pointer();
      const quarantined = await data.quarantined();
      return {
        current,
        previous,
        serving: retriever.store.peek()?.id ?? null,
        generations: newestFirst(await Promise.all((await data.ids()).map((id) => describe(id, data.folderOf(id))))),
        quarantined: quarantined.map(({ id, since, reason }) => ({
          id,
          ...(since === undefined ? {} : { since }),
          ...(reason === undefined ? {} : { reason }),
        })),
      };
    },
  );

  app.get(
    '/admin/recall',
    {
      schema: {
        summary: 'How near to exact the answers are, by samples of what is asked',
        description:
          'Some searches are answered once more, exactly, when the process is idle. Of the process that answers, and of the generation that serves.',
        tags: ['admin'],
        response: { 200: RecallAnswer, default: ErrorAnswer },
      },
    },
    async () => retriever.sampler?.report() ?? NO_SAMPLES,
  );

  app.post(
    '/admin/generations/:id/activate',
    {
      schema: {
        summary: 'Serve this generation: a rollback, or a way forward again',
        description:
          'Verifies it, moves CURRENT, and answers when this process serves it, or says why it does not; other processes follow by themselves.',
        tags: ['admin'],
        params: GenerationId,
        response: { 200: ActivateAnswer, default: ErrorAnswer },
      },
    },
    async (request) => {
      const { id } = await data.activate(request.params.id);
      request.log.warn({ generation: id }, 'generation activated by request');
      await follower.check();
      const serving = retriever.store.peek()?.id ?? null;
      const { problem } = follower;
      return {
        current: id,
        serving,
        ...(serving === id || problem === undefined
          ? {}
          : { problem: { code: problem.code, message: problem.message } }),
      };
    },
  );
};

async function describe(id: string, folder: string) {
  try {
    const { created, items, users, files, models } = await readManifest(folder);
    return {
      id,
      created,
      items: items.count,
      users: users?.count ?? 0,
      bytes: Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0),
      models: models.map(({ name, version }) => `${name}@${version}`),
    };
  } catch (error) {
    const { code, message } = asBelfryError(error, 'BELFRY_GENERATION_CORRUPT');
    return { id, problem: { code, message } };
  }
}
