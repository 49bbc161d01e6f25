/** What gates and canaries search: the vectors, ids and index of a generation that is not yet published. */
import { join } from 'node:path';
import { loadAddon, type NativeIndex, type NativeMatrix } from '../../ann/addon.js';
import type { IdMap } from '../../ann/ids.js';
import type { Row } from '../../types.js';
import { loadIds } from '../load-ids.js';
import type { Manifest } from '../manifest.js';

export interface GateSubject {
  readonly index: NativeIndex;
  readonly items: NativeMatrix;
  readonly users: NativeMatrix | undefined;
  readonly itemIds: IdMap;
  readonly userIds: IdMap | undefined;
  readonly skippedItems: ReadonlySet<Row>;
  readonly skippedUsers: ReadonlySet<Row>;
}

type Described = Pick<Manifest, 'items' | 'users' | 'graph' | 'metric' | 'files'>;

export async function openSubject(folder: string, manifest: Described, threads?: number): Promise<GateSubject & { close(): void }> {
  const { items: section, users: userSection, graph, metric, files } = manifest;
  const addon = loadAddon();
  const opened: { close(): void }[] = [];
  const keep = <T extends { close(): void }>(one: T): T => {
    opened.push(one);
    return one;
  };
  const close = (): void => opened.reverse().forEach((one) => one.close());
  try {
    const items = keep(await addon.openMatrix(join(folder, section.file)));
    const users = userSection && keep(await addon.openMatrix(join(folder, userSection.file)));
    const index = keep(
      await addon.createIndex({
        matrix: items,
        metric,
        ...(threads === undefined ? {} : { threads }),
        ...(graph === undefined
          ? {}
          : { graph: { path: join(folder, graph.file), vectors: files[section.file]!.sha256 } }),
      }),
    );
    return {
      index,
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
