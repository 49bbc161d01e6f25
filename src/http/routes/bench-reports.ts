/** The last reports of `belfry bench` about the data folder, for the console page. Written by src/bench/report/keep.ts. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { BelfryError } from '../../errors.js';
import type { AppParts } from '../parts.js';
import { ErrorAnswer } from '../schemas.js';

const Id = Type.String({ pattern: '^\\d{8}-\\d{6}-[a-z]{1,16}$' });
const Listed = Type.Object({
  bench: Type.String(),
  title: Type.String(),
  subject: Type.String(),
  started: Type.String(),
  summary: Type.Array(
    Type.Object({ label: Type.String(), value: Type.Union([Type.Number(), Type.Null()]), unit: Type.String() }),
  ),
  warnings: Type.Array(Type.Object({ code: Type.String() })),
  gates: Type.Array(Type.Object({ passed: Type.Boolean() })),
});

/** What report.html needs and no more: it is one file, and its script is its own. */
const REPORT_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; sandbox allow-scripts";

export const benchReportRoutes: FastifyPluginAsyncTypebox<AppParts> = async (app, { admin }) => {
  if (admin === undefined) return;
  const folder = join(admin.data.path, 'bench');

  app.get(
    '/console/benches',
    {
      schema: {
        hide: true,
        response: {
          200: Type.Object({ reports: Type.Array(Type.Object({ id: Type.String(), ...Listed.properties })) }),
          default: ErrorAnswer,
        },
      },
    },
    async () => {
      const ids = (await readdir(folder).catch(() => [])).filter((id) => Value.Check(Id, id)).sort();
      const reports = await Promise.all(
        ids.reverse().map(async (id) => ({ id, report: await read(join(folder, id)) })),
      );
      return { reports: reports.flatMap(({ id, report }) => (report === undefined ? [] : [{ id, ...report }])) };
    },
  );

  app.get(
    '/console/benches/:id',
    { schema: { hide: true, params: Type.Object({ id: Id }) } },
    async ({ params: { id } }, reply) => {
      const html = await readFile(join(folder, id, 'report.html'), 'utf8').catch(() => undefined);
      if (html === undefined) throw new BelfryError('BELFRY_NOT_FOUND', `no bench report ${id}`, { field: 'id' });
      return reply
        .headers({ 'content-security-policy': REPORT_POLICY, 'origin-agent-cluster': '?0' }) // sandboxed: of no origin
        .type('text/html; charset=utf-8')
        .send(html);
    },
  );
};

/** Undefined where there is none yet, or it is of another form: the list is for looking, not for deciding. */
async function read(folder: string): Promise<Static<typeof Listed> | undefined> {
  try {
    const report: unknown = JSON.parse(await readFile(join(folder, 'report.json'), 'utf8'));
    return Value.Check(Listed, report) ? report : undefined;
  } catch {
    return undefined;
  }
}
