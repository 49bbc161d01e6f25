/** The builds of a server: at its start, on request, for a new export, by the clock; and what they say in log and metrics. */
import type { Logger } from 'pino';
import { isObjectAddress } from '../config/object-address.js';
import { objectStoreSettings, type Settings } from '../config/schema.js';
import { asBelfryError } from '../errors.js';
import { isUpToDate } from '../generation/build.js';
import type { DataFolder } from '../generation/data-folder.js';
import { readManifest } from '../generation/manifest.js';
import type { Manifest } from '../generation/manifest-schema.js';
import { latestLooker, prefixLooker } from '../object-store/looks.js';
import { ExportWatch, type ExportWatchOptions, lookAtFolder } from '../rebuild/export-watch.js';
import type { Trigger } from '../rebuild/history.js';
import { Rebuilder, type RebuildEvent } from '../rebuild/rebuilder.js';
import { recordedBuild } from '../rebuild/recorded-build.js';
import { assertSchedule, type Schedule, schedule } from '../rebuild/schedule.js';
import { MovedVersions } from '../registry/moved-versions.js';
import type { Retriever } from '../retrieval/retriever.js';
import type { Metrics } from '../telemetry/metrics.js';
import { buildTask } from './build-task.js';
import type { ProgressLine } from './terminal.js';

/** The export that failed may be fine a moment later: it was still being written, or somebody else was building. */
const PASSING = [
  'BELFRY_FILE_CHANGED',
  'BELFRY_LOCKED',
  'BELFRY_BUILD_RUNNING',
  'BELFRY_OBJECT_STORE_UNREACHABLE',
  'BELFRY_OBJECT_STORE_SLOW',
  'BELFRY_MLFLOW_UNREACHABLE',
];
/** A look at an object store is a request, for which some stores charge. */
const STORE_POLL_MS = 10_000;

/**
 * Builds before anything is served, where the data folder holds nothing of this models folder. False when there was no
 * need to, or another process is at it. Errors: those of a build.
 */
export async function firstBuild(
  settings: Settings,
  data: DataFolder,
  { progress, signal }: { progress: ProgressLine; signal: AbortSignal },
): Promise<boolean> {
  if (settings.rebuild_schedule !== undefined) assertSchedule(settings.rebuild_schedule); // said before the work
  if (await holdsSomethingOf(settings, data)) return false;
  const { error, outcome } = await recordedBuild(buildTask(settings, data.path, 'alone'), 'start', {
    signal,
    onProgress: progress.update,
    onPlan: progress.plan,
  });
  progress.finish();
  if (error !== undefined && error.code !== 'BELFRY_LOCKED') throw error;
  return outcome?.reused === false;
}

/** A generation whose manifest cannot be read counts: the server that starts says what is wrong with it. */
async function holdsSomethingOf({ models, pull_from }: Settings, data: DataFolder): Promise<boolean> {
  const pointed = await data.pointed();
  const id = pointed ?? (await data.ids())[0];
  if (id === undefined) return false;
  if (pull_from !== undefined) return true; // wherever it was built
  try {
    return (await readManifest(data.folderOf(id))).models_folder === models;
  } catch {
    return true;
  }
}

export class ServerRebuilds {
  readonly rebuilder: Rebuilder;
  private readonly watch: ExportWatch | undefined;
  private readonly schedule: Schedule | undefined;

  /** Error: BELFRY_CONFIG_INVALID for a schedule that is none. */
  constructor(
    settings: Settings,
    data: DataFolder,
    private readonly parts: { retriever: Pick<Retriever, 'buildProblem'>; metrics: Metrics; logger: Logger },
  ) {
    const { watch_export, pull_from, watch_settle_ms, rebuild_schedule } = settings;
    this.rebuilder = new Rebuilder({
      task: buildTask(settings, data.path, 'beside'),
      onEvent: (event) => this.tell(event),
    });
    if (watch_export || pull_from !== undefined) {
      const onError = (error: unknown) =>
        parts.logger.warn({ err: asBelfryError(error).message }, 'the export cannot be watched');
      this.watch = new ExportWatch({
        ...lookOf(settings, onError),
        settleMs: watch_settle_ms,
        onSettled: () => this.build('export'),
        onError,
      });
    }
    if (rebuild_schedule !== undefined) this.schedule = schedule(rebuild_schedule, () => void this.build('schedule'));
  }

  readonly nextScheduled = (): Date | null => this.schedule?.next() ?? null;

  /** Learns what became of the builds before. */
  async open(): Promise<void> {
    await this.rebuilder.open();
    this.showProblem();
  }

  /** Builds aside if `serving`, of the generation that serves, was not made from the export of now. */
  async start(serving: Manifest | undefined): Promise<void> {
    await this.watch?.start();
    const { task } = this.rebuilder;
    const isCurrent = serving !== undefined && (await isUpToDate(serving, task).catch(() => false)); // the build says why
    if (!isCurrent) void this.build('start');
  }

  async close(): Promise<void> {
    this.schedule?.stop();
    this.watch?.close();
    await this.rebuilder.close();
  }

  /** Resolves at the end of the build; false when it is worth another try. */
  private async build(trigger: Trigger): Promise<boolean> {
    try {
      const { error } = await (await this.rebuilder.start(trigger)).ended;
      return error === undefined || !PASSING.includes(error.code);
    } catch (error) {
      const { code, message } = asBelfryError(error);
      this.parts.logger.info({ trigger, code, err: message }, 'not built now');
      return !PASSING.includes(code);
    }
  }

  private tell(event: RebuildEvent): void {
    const { logger, metrics } = this.parts;
    if (event.kind === 'started') {
      metrics.buildRunning.set(1);
      logger.info({ trigger: event.trigger }, 'building');
    } else if (event.kind === 'stage') {
      logger.debug({ stage: event.stage }, 'building');
    } else if (event.kind === 'warning') {
      logger.warn({ code: event.error.code, err: event.error.message }, 'of the build');
    } else {
      const { result, code, message, seconds, generation, trigger, started } = event.record;
      metrics.buildRunning.set(this.rebuilder.view() === undefined ? 0 : 1);
      metrics.builds.inc({ result, code: code ?? '' });
      if (result === 'published') {
        metrics.buildSeconds.set(seconds);
        metrics.buildPublished.set(Date.parse(started) / 1000);
      }
      const facts = { trigger, seconds, ...(generation === undefined ? {} : { generation }), ...(code && { code }) };
      if (result === 'failed') logger.error({ ...facts, err: message }, 'build failed; what serves goes on serving');
      else logger.info(facts, `build ${result}`);
      this.showProblem();
    }
  }

  private showProblem(): void {
    const { retriever, metrics } = this.parts;
    retriever.buildProblem = this.rebuilder.problem;
    metrics.buildProblem.reset();
    if (retriever.buildProblem !== undefined) metrics.buildProblem.set({ code: retriever.buildProblem.code }, 1);
  }
}

/** How the next export, or the next copy, is seen. */
function lookOf(settings: Settings, onError: (error: unknown) => void): Pick<ExportWatchOptions, 'look' | 'pollMs'> {
  const { models, pull_from } = settings;
  if (!isObjectAddress(models)) {
    const versions = new MovedVersions(models, settings, onError);
    return {
      look: async () => {
        const seen = await lookAtFolder(models);
        return seen === undefined ? undefined : { ...seen, marks: `${seen.marks};${await versions.now()}` };
      },
    };
  }
  const looker = pull_from === undefined ? prefixLooker : latestLooker;
  return { look: looker(models, objectStoreSettings(settings)), pollMs: STORE_POLL_MS };
}
