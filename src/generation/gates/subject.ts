/** What gates, canaries and the report look at: the vectors and ids of a generation that is not yet published, and its index. */
import { join } from 'node:path';
import { loadAddon, type NativeIndex, type NativeMatrix } from '../../ann/addon.js';
import type { IdMap } from '../../ann/ids.js';
import type { Row } from '../../types.js';
import { loadIds } from '../load-ids.js';
import type { Manifest } from '../manifest.js';

export interface GateVectors {
  readonly items: NativeMatrix;
  readonly users: NativeMatrix | undefined;
  readonly itemIds: IdMap;
  readonly userIds: IdMap | undefined;
  readonly skippedItems: ReadonlySet<Row>;
  readonly skippedUsers: ReadonlySet<Row>;
}

export interface GateSubject extends GateVectors {
  readonly index: NativeIndex;
}

interface Closable {
  close(): void;
}

export async function openVectors(
  folder: string,
  { items: section, users: userSection }: Pick<Manifest, 'items' | 'users'>,
): Promise<GateVectors & Closable> {
  const addon = loadAddon();
  const items = await addon.openMatrix(join(folder, section.file));
  let users: NativeMatrix | undefined;
  const close = (): void => {
    items.close();
    users?.close();
  };
  try {
    users = userSection && (await addon.openMatrix(join(folder, userSection.file)));
    return {
      items,
      users,
      itemIds: await loadIds(folder, section.idsFile, section.count, section.file),
      userIds: userSection && (await loadIds(folder, userSection.idsFile, userSection.count, userSection.file)),
      skippedItems: new Set(section.skippedRows),
      skippedUsers: new Set(userSection?.skippedRows),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

export async function openSubject(
  folder: string,
  manifest: Pick<Manifest, 'items' | 'users' | 'graph' | 'metric' | 'files'>,
  threads?: number,
): Promise<GateSubject & Closable> {
  const { items, graph, metric, files } = manifest;
  const vectors = await openVectors(folder, manifest);
  try {
    const index = await loadAddon().createIndex({
      matrix: vectors.items,
      metric,
      ...(threads === undefined ? {} : { threads }),
      ...(graph === undefined ? {} : { graph: { path: join(folder, graph.file), vectors: files[items.file]!.sha256 } }),
    });
    const close = (): void => {
      index.close();
      vectors.close();
    };
    return { ...vectors, index, close };
  } catch (error) {
    vectors.close();
    throw error;
  }
}
