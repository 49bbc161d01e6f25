/**
 * What a task asks for, from its beginning to its end: an export is brought here when it lies in an object store, built
 * and published; or a generation that was built elsewhere is pulled. What was published is pushed where the task says.
 */
import { isObjectAddress, parseObjectAddress } from '../config/object-address.js';
import type { ObjectStoreSettings } from '../config/schema.js';
import { asBelfryError, BelfryError } from '../errors.js';
import type { BuildOptions, BuildResult } from '../generation/build.js';
import { DataFolder } from '../generation/data-folder.js';
import type { TransferOptions } from '../object-store/download-all.js';
import { fetchExport } from '../object-store/object-export.js';
import { ObjectStore } from '../object-store/object-store.js';
import { pullGeneration } from '../object-store/pull.js';
import { pushGeneration } from '../object-store/push.js';
import { bringModels } from '../registry/bring-models.js';
import { buildGeneration, ensureGeneration } from '../upserts/build.js';
import type { BuildTask } from './builder-process.js';

type Callbacks = Pick<BuildOptions, 'onProgress' | 'onPlan' | 'onGate' | 'onBadGeneration' | 'onWarning' | 'signal'>;

/** Errors: those of buildGeneration, fetchExport, bringModels, pullGeneration. A push that fails is a warning. */
export async function makeGeneration(task: BuildTask, callbacks: Callbacks): Promise<BuildResult> {
  const { force = false, objectStore, pull = false, pushTo, mlflow, ...local } = task;
  if (pull) return pullLatest(task, callbacks);
  const exported = { ...local, ...(await brought(task, callbacks)) };
  const models = await bringModels(exported.models, local.data, mlflow ?? {}, callbacks);
  const options = { ...exported, brought: models, ...callbacks };
  const result = force ? { published: await buildGeneration(options), reused: false } : await ensureGeneration(options);
  if (objectStore !== undefined && pushTo !== undefined && !result.reused) {
    try {
      await push(pushTo, objectStore, local.data, result.published.id, callbacks);
    } catch (error) {
      const { code, message } = asBelfryError(error);
      const text = `generation ${result.published.id} serves here but was not pushed (${message}); run belfry push`;
      callbacks.onWarning?.(new BelfryError(code, text, { cause: error }));
    }
  }
  return result;
}

async function brought({ models, data, objectStore }: BuildTask, callbacks: TransferOptions) {
  if (!isObjectAddress(models)) return {};
  return { models: await fetchExport(models, data, settingsOf(objectStore), callbacks), source: models };
}

async function pullLatest({ models, data, objectStore }: BuildTask, callbacks: TransferOptions): Promise<BuildResult> {
  const store = await ObjectStore.open(parseObjectAddress(models, 'pull_from'), settingsOf(objectStore));
  try {
    const folder = await DataFolder.open(data);
    const { id, manifest, wasHere } = await pullGeneration(store, folder, 'latest', callbacks);
    return { published: { id, folder: folder.folderOf(id), manifest }, reused: wasHere };
  } finally {
    store.close();
  }
}

async function push(to: string, settings: ObjectStoreSettings, data: string, id: string, callbacks: TransferOptions) {
  const store = await ObjectStore.open(parseObjectAddress(to, 'push_to'), settings);
  try {
    await pushGeneration(store, await DataFolder.open(data), id, callbacks);
  } finally {
    store.close();
  }
}

function settingsOf(settings: ObjectStoreSettings | undefined): ObjectStoreSettings {
  if (settings !== undefined) return settings;
  throw new BelfryError('BELFRY_INTERNAL', 'a task of an object store says not how to reach it');
}
