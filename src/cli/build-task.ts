/** What the settings say of a build: the same for `belfry build` and for the builds of a server. */
import { availableParallelism } from 'node:os';
import { isObjectAddress } from '../config/object-address.js';
import { mlflowSettings } from '../config/mlflow.js';
import { objectStoreSettings, type Settings } from '../config/schema.js';
import { gateThresholds } from '../generation/gates/thresholds.js';
import type { BuildTask } from '../rebuild/builder-process.js';

/** `beside`: something serves from this machine meanwhile, so half of the CPUs are left to it. */
export function buildTask(settings: Settings, data: string, where: 'alone' | 'beside'): BuildTask {
  const half = Math.max(1, availableParallelism() >> 1);
  return {
    models: settings.models,
    ...objectStoreTask(settings),
    data,
    mlflow: mlflowSettings(settings),
    metric: settings.metric,
    onBadVector: settings.on_bad_vector,
    threads: settings.build_threads ?? (where === 'beside' ? half : undefined),
    thresholds: gateThresholds(settings),
  };
}

function objectStoreTask(settings: Settings): Pick<BuildTask, 'objectStore' | 'pull' | 'pushTo'> {
  const { models, pull_from, push_to } = settings;
  if (!isObjectAddress(models) && push_to === undefined) return {};
  return {
    objectStore: objectStoreSettings(settings),
    pull: pull_from !== undefined,
    ...(push_to === undefined ? {} : { pushTo: push_to }),
  };
}
