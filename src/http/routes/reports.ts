/** What the build of a generation made and measured, as JSON and as a picture. Registered by the routes under /admin. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { BelfryError } from '../../errors.js';
import type { DataFolder } from '../../generation/data-folder.js';
import { readManifest } from '../../generation/manifest.js';
import { readReport, readReportFile } from '../../generation/report/make-report.js';
import { REPORT_FILES, ReportSchema } from '../../generation/report/report-schema.js';
import { ErrorAnswer, GenerationId } from '../schemas.js';

export const reportRoutes: FastifyPluginAsyncTypebox<{ readonly data: DataFolder }> = async (app, { data }) => {
  const open = async (id: string) => {
    if (!(await data.ids()).includes(id))
      throw new BelfryError('BELFRY_UNKNOWN_GENERATION', `generation ${id} is not in the data folder`, { field: 'id' });
    const folder = data.folderOf(id);
    return { folder, manifest: await readManifest(folder) };
  };

  app.get(
    '/admin/generations/:id/report',
    {
      schema: {
        summary: 'What the build of a generation made and measured, and how it differs from the one before',
        tags: ['admin'],
        params: GenerationId,
        response: { 200: ReportSchema, default: ErrorAnswer },
      },
    },
    async (request) => {
      const { folder, manifest } = await open(request.params.id);
      return readReport(folder, manifest);
    },
  );

  app.get(
    '/admin/generations/:id/report.svg',
    {
      schema: {
        summary: 'Recall against cost, as the build measured it',
        tags: ['admin'],
        params: GenerationId,
        response: {
          200: { content: { 'image/svg+xml': { schema: Type.String() } } },
          default: ErrorAnswer,
        },
      },
    },
    async (request, reply) => {
      const { folder, manifest } = await open(request.params.id);
      const picture = await readReportFile(folder, manifest, REPORT_FILES.svg);
      // Opened by itself, its own style is all that it may load.
      return reply
        .header('content-type', 'image/svg+xml')
        .header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
        .send(picture);
    },
  );
};
