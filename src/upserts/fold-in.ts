/**
 * Upserts into a build. The changes that count are those which the generation before holds over its export, and those
 * logged since its mark; of each item the last one. An export that is newer than a change wins for the items that it
 * holds; what it does not hold is not taken from anyone (docs/decisions/0008-upserts.md).
 */
import { join } from 'node:path';
import { BelfryError, show } from '../errors.js';
import { FeatureTable } from '../features/feature-table.js';
import { DataFolder, type PublishedGeneration } from '../generation/data-folder.js';
import { type FileFacts, writeDurable } from '../generation/files.js';
import { readManifest, type UpsertsSection } from '../generation/manifest.js';
import { openItemTower } from '../generation/models.js';
import type { BuildSoFar, FoldedItems, UpsertSource } from '../generation/upsert-source.js';
import type { ItemTower } from '../tower/item-tower.js';
import type { Features, Id, Row } from '../types.js';
import { ItemLog } from './item-log.js';
import { spaceOf } from './item-space.js';
import { encodeChange, encodeCommit, encodeSegmentHeader, type ItemChange, type ItemPut } from './log-format.js';
import { LogReader, logFolder, segmentPath } from './log-reader.js';
import { mergeIds, mergeTable, mergeVectors } from './merge-files.js';

/** Changes of one commit in the file of a generation. */
const COMMIT_CHANGES = 256;

export class FoldIn implements UpsertSource {
  constructor(
    private readonly data: string,
    /** Hears of items that the build cannot hold. */
    private readonly onWarning: (error: BelfryError) => void = () => undefined,
  ) {}

  async foldInto(build: BuildSoFar): Promise<FoldedItems> {
    const base = await this.base(build.previous);
    const from = base?.manifest.upserts?.mark ?? 1;
    const mark = await this.markLog(from);
    const changes = await this.lastChanges(base, from, mark);
    return new Fold(build, exportTime(build, base), changes, this.onWarning).run(mark);
  }

  async published(): Promise<void> {
    const data = await DataFolder.open(this.data);
    const marks = await Promise.all(
      (await data.ids()).map(async (id) => {
        const manifest = await readManifest(data.folderOf(id)).catch(() => undefined);
        return manifest?.upserts?.mark ?? 1; // one that cannot be read, or knew of no log, may need all of it
      }),
    );
    await this.withLog((log) => log.trim(Math.min(...marks)));
  }

  /** What the build begins with: the generation that serves, else the one that knows most. */
  private async base(previous: PublishedGeneration | undefined): Promise<PublishedGeneration | undefined> {
    if (previous !== undefined) return previous;
    const data = await DataFolder.open(this.data);
    let best: PublishedGeneration | undefined;
    for (const id of await data.ids()) {
      const folder = data.folderOf(id);
      const manifest = await readManifest(folder).catch(() => undefined); // as damaged as the one before it
      if ((manifest?.upserts?.mark ?? 0) > (best?.manifest.upserts?.mark ?? 0))
        best = { id, folder, manifest: manifest! };
    }
    return best;
  }

  private markLog(least: number): Promise<number> {
    return this.withLog((log) => {
      log.raise(least);
      return log.mark();
    });
  }

  private async withLog<T>(action: (log: ItemLog) => Promise<T>): Promise<T> {
    const log = await ItemLog.open(this.data, { fsync: 'always' });
    try {
      return await action(log);
    } finally {
      await log.close();
    }
  }

  /** Of each item, in the order of the log. */
  private async lastChanges(
    base: PublishedGeneration | undefined,
    from: number,
    mark: number,
  ): Promise<Map<Id, ItemChange>> {
    const last = new Map<Id, ItemChange>();
    const readAll = async (folder: string, first: number, end: number) => {
      for await (const { changes } of new LogReader(folder, first).read()) {
        for (const { sequence, change } of changes) {
          if (sequence >= end) return;
          last.delete(change.id);
          last.set(change.id, change);
        }
      }
    };
    if (base?.manifest.upserts?.file !== undefined) await readAll(logFolder(base.folder), 1, Number.POSITIVE_INFINITY);
    await readAll(logFolder(this.data), from, mark);
    return last;
  }
}

/**
 * When the export was made: what export.json says, else the time of item_embeddings.npy; but the very vectors of the
 * generation before are no newer than they were then, whoever copied or touched them.
 */
function exportTime({ folder, source }: BuildSoFar, base: PublishedGeneration | undefined): number {
  const before = base?.manifest.upserts?.exportTime;
  const same = base?.manifest.sources.some(({ path, sha256 }) => path === source.path && sha256 === source.sha256);
  if (before !== undefined && same === true) return before;
  const created = Date.parse(folder.exportDescription.created ?? '');
  return Number.isNaN(created) ? source.mtimeMs : created;
}

/** One merger of changes and an export. */
class Fold {
  private readonly replaced = new Map<Row, Float32Array>();
  private readonly left = new Set<Row>();
  private readonly added: { id: Id; vector: Float32Array }[] = [];
  private readonly metadata = new Map<Id, Features>();
  private readonly gone = new Set<Id>();
  /** For the next build. */
  private readonly carried: ItemChange[] = [];
  private superseded = 0;
  private leftOut = 0;
  /** Of the first one. */
  private whyLeftOut: string | undefined;
  private tower: Promise<ItemTower | undefined> | undefined;

  constructor(
    private readonly build: BuildSoFar,
    private readonly exportTime: number,
    private readonly changes: ReadonlyMap<Id, ItemChange>,
    private readonly onWarning: (error: BelfryError) => void,
  ) {}

  async run(mark: number): Promise<FoldedItems> {
    try {
      for (const change of this.changes.values()) {
        this.build.signal?.throwIfAborted();
        await this.take(change);
      }
    } finally {
      await (await this.tower?.catch(() => undefined))?.close(); // one that did not open has been told of
    }
    if (this.leftOut > 0) {
      this.onWarning(
        new BelfryError(
          'BELFRY_UPSERT_LEFT_OUT',
          `${this.leftOut} upserted items are left out of the build, the first of them ${this.whyLeftOut}; put them again`,
        ),
      );
    }
    return this.write(mark);
  }

  private async take(change: ItemChange): Promise<void> {
    const { itemIds, section } = this.build;
    const row = itemIds.rowOf(change.id);
    const isInExport = row !== undefined && !section.skippedRows.includes(row);
    if (change.time <= this.exportTime && isInExport) {
      this.superseded++;
      return;
    }
    if (change.op === 'delete') {
      if (isInExport) {
        this.left.add(row);
        this.gone.add(change.id);
      }
      if (change.time > this.exportTime) this.carried.push(change);
      return;
    }
    const put = await this.fitted(change);
    this.carried.push(put ?? change);
    if (put === undefined) {
      this.leftOut++;
      return;
    }
    if (row === undefined) this.added.push({ id: put.id, vector: put.embedding });
    else this.replaced.set(row, put.embedding);
    this.metadata.set(put.id, put.metadata);
  }

  /** The change as it fits this generation; undefined where it does not and cannot be made to. */
  private async fitted(put: ItemPut): Promise<ItemPut | undefined> {
    const { itemIds, section, models } = this.build;
    const isNumber = typeof put.id === 'number';
    const space = spaceOf({ models });
    try {
      if (isNumber !== (itemIds.kind !== 'string')) throw new Error(`the ids of the export are ${itemIds.kind}s now`);
      if (put.space === space && put.embedding.length === section.dims) return put;
      if (put.features === undefined) throw new Error('its vector is of another training, and was sent as it is');
      this.tower ??= openTower(this.build);
      const tower = await this.tower;
      if (tower === undefined) throw new Error('its vector is of another training, and there is no item tower');
      return { ...put, space, embedding: await tower.embed({ ...put.features, id: put.id }) };
    } catch (error) {
      this.whyLeftOut ??= `${show(put.id)}: ${(error as Error).message}`;
      return undefined;
    }
  }

  private async write(mark: number): Promise<FoldedItems> {
    const { build, replaced, left, added, metadata, gone } = this;
    const { into, folder, section, itemIds, itemIdsFile } = build;
    const files: Record<string, FileFacts> = {};
    let [merged, idsFile] = [section, itemIdsFile];
    if (replaced.size + left.size + added.length > 0) {
      const skipped = new Set(section.skippedRows.filter((row) => !replaced.has(row)));
      const vectors = added.map(({ vector }) => vector);
      const { facts, ...rest } = await mergeVectors(into, section, { replaced, left, added: vectors, skipped });
      merged = rest.section;
      files[section.file] = facts;
    }
    if (added.length > 0) {
      const ids = await mergeIds(
        into,
        itemIdsFile,
        itemIds,
        added.map(({ id }) => id),
      );
      idsFile = ids.file;
      files[ids.file] = ids.facts;
    }
    if (folder.items !== undefined && metadata.size + gone.size > 0)
      files[folder.items] = await mergeTable(into, folder.items, metadata, gone);
    const upserts: UpsertsSection = {
      mark,
      exportTime: this.exportTime,
      items: replaced.size + added.length,
      added: added.length,
      deleted: left.size,
      superseded: this.superseded,
      leftOut: this.leftOut,
    };
    if (this.carried.length === 0) return { section: merged, itemIdsFile: idsFile, files, upserts };
    const file = segmentPath('upserts', 1);
    files[file] = await writeDurable(join(into, file), encodeAll(this.carried), 'copy');
    return { section: merged, itemIdsFile: idsFile, files, upserts: { ...upserts, file } };
  }
}

function encodeAll(changes: readonly ItemChange[]): Buffer {
  const parts = [encodeSegmentHeader(1)];
  for (let at = 0; at < changes.length; at += COMMIT_CHANGES)
    parts.push(encodeCommit(at + 1, changes.slice(at, at + COMMIT_CHANGES).map(encodeChange)));
  return Buffer.concat(parts);
}

async function openTower({ into, folder, models, section, itemIds }: BuildSoFar): Promise<ItemTower | undefined> {
  const tableOf = (file: string | undefined) =>
    FeatureTable.open(file === undefined ? undefined : join(into, file), file === undefined ? {} : { name: file });
  const users = await tableOf(folder.users);
  return openItemTower({
    folder: into,
    rows: models,
    dims: section.dims,
    users,
    items: (await tableOf(folder.items)).alignTo(itemIds.all()),
    itemIds: () => itemIds.all(),
    userIds: () => users.ids,
  });
}
