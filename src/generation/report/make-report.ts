/** The report of a build, kept beside the generation: for people and dashboards, not read by a search. */
import { readFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Value } from 'typebox/value';
import { BelfryError } from '../../errors.js';
import type { PublishedGeneration } from '../data-folder.js';
import { type FileFacts, writeDurable } from '../files.js';
import { openVectors } from '../gates/subject.js';
import type { Manifest } from '../manifest.js';
import { bytesOf, compare } from './compare.js';
import { recallCurve } from './recall-curve.js';
import { recallSvg } from './recall-svg.js';
import { type Diff, type Report, REPORT_FILES, ReportSchema } from './report-schema.js';

type Complete = Omit<Manifest, 'report'>;

/** Writes report.json and report.svg into the folder of the generation. */
export async function writeReport(
  folder: string,
  manifest: Complete,
  previous: PublishedGeneration | undefined,
): Promise<Record<string, FileFacts>> {
  const report = reportOf(manifest, previous === undefined ? undefined : await diffOf(folder, manifest, previous));
  const before = previous === undefined ? [] : recallCurve(previous.manifest.graph?.calibration);
  const json = `${JSON.stringify(report, null, 2)}\n`;
  return {
    [REPORT_FILES.json]: await writeDurable(join(folder, REPORT_FILES.json), json, 'report'),
    [REPORT_FILES.svg]: await writeDurable(join(folder, REPORT_FILES.svg), recallSvg(report, before), 'report'),
  };
}

/** Damage to the generation before must not keep a good one from being published. */
async function diffOf(folder: string, manifest: Complete, previous: PublishedGeneration): Promise<Diff | undefined> {
  const subject = await openVectors(folder, manifest);
  try {
    return await compare(subject, manifest, previous);
  } catch (error) {
    if (error instanceof BelfryError) return undefined;
    throw error;
  } finally {
    subject.close();
  }
}

function reportOf(manifest: Complete, diff: Diff | undefined): Report {
  const { items, users, graph, files, gates, overrides, search } = manifest;
  const calibration = graph?.calibration;
  const measurements = gates.find(({ name }) => name === 'recall')?.measurements ?? [];
  const measured = measurements.flatMap(({ what, value }) => {
    const k = Number(/^recall@(\d+)$/.exec(what)?.[1] ?? 0);
    if (k === 0) return [];
    const microseconds = measurements.find((one) => one.what === `microseconds@${k}`)?.value ?? 0;
    return [{ k, recall: value, microseconds }];
  });
  return {
    version: 1,
    generation: manifest.id,
    created: manifest.created,
    models_folder: manifest.models_folder,
    metric: manifest.metric,
    build_seconds: manifest.buildMs / 1000,
    items: items.count,
    users: users?.count ?? 0,
    dims: items.dims,
    bytes: bytesOf(manifest),
    graph_bytes: graph === undefined ? 0 : files[graph.file]!.bytes,
    gates: gates.map((gate) => ({ ...gate, measurements: gate.measurements.map((one) => ({ ...one })) })),
    overrides: [...overrides],
    norms: { items: { ...items.norms }, ...(users === undefined ? {} : { users: { ...users.norms } }) },
    recall: {
      target: search.recall,
      measured,
      curve: recallCurve(calibration),
      ...(calibration === undefined ? {} : { scan_microseconds: calibration.costs.scanMicroseconds }),
    },
    ...(diff === undefined ? {} : { diff }),
  };
}

/**
 * A file of the report as it was written. Error: BELFRY_REPORT_MISSING, when it is not there, or not what the manifest
 * says: searches do not need it, so nothing else notices.
 */
export async function readReportFile(folder: string, manifest: Manifest, name: string): Promise<string> {
  const missing = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_REPORT_MISSING', `generation ${manifest.id}: ${name} ${why}; searches do not need it`, {
      field: name,
      cause,
    });
  let bytes: Buffer;
  try {
    bytes = await readFile(join(folder, name));
  } catch (error) {
    throw missing(`cannot be read (${(error as NodeJS.ErrnoException).code})`, error);
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (manifest.report[name]?.sha256 !== sha256) throw missing('does not fit its checksum');
  return bytes.toString('utf8');
}

/** Error: BELFRY_REPORT_MISSING. */
export async function readReport(folder: string, manifest: Manifest): Promise<Report> {
  const parsed: unknown = JSON.parse(await readReportFile(folder, manifest, REPORT_FILES.json));
  if (Value.Check(ReportSchema, parsed)) return parsed;
  throw new BelfryError('BELFRY_REPORT_MISSING', `generation ${manifest.id}: its report is of another version`, {
    field: REPORT_FILES.json,
  });
}
