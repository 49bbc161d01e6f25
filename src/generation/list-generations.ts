/** What a data folder holds, for people and scripts: each generation, its size, and what it is to the others. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataFolder } from './data-folder.js';
import { readManifest } from './manifest.js';

export interface ListedGeneration {
  readonly id: string;
  /**
   * `serving`: CURRENT names it, or it is the newest and CURRENT names none that is here. `previous`: a rollback goes to
   * it. `kept`: a process uses it, or nothing was published since it was replaced. `quarantined`: never served again.
   */
  readonly state: 'serving' | 'previous' | 'kept' | 'quarantined';
  readonly folder: string;
  /** Of all its files. */
  readonly bytes: number;
  /** From its manifest; absent when that cannot be read. */
  readonly created?: string;
  readonly items?: number;
  /** Why it was moved aside, or why its manifest cannot be read. */
  readonly problem?: string;
}

/** By the time of their builds, where it is known: ids tell seconds only. */
export function newestFirst<T extends { readonly created?: string }>(generations: readonly T[]): T[] {
  return [...generations].sort(({ created: a }, { created: b }) =>
    a === undefined || b === undefined || a === b ? 0 : a < b ? 1 : -1,
  );
}

/** Newest first, the quarantined last. Checks no checksums but that of each manifest. */
export async function listGenerations(data: DataFolder): Promise<ListedGeneration[]> {
  const ids = await data.ids();
  const pointer = await data.pointer();
  const serving = ids.find((id) => id === pointer.current) ?? ids[0];
  const others = ids.filter((id) => id !== serving);
  const previous = others.find((id) => id === pointer.previous) ?? others[0];
  const stateOf = (id: string): ListedGeneration['state'] =>
    id === serving ? 'serving' : id === previous ? 'previous' : 'kept';
  const rows = [
    ...ids.map((id) => ({ id, state: stateOf(id), folder: data.folderOf(id), problem: undefined })),
    ...(await data.quarantined()).map(({ id, folder, since, reason }) => ({
      id,
      state: 'quarantined' as const,
      folder,
      problem: reason === undefined ? 'moved aside' : `${reason} (moved aside ${since})`,
    })),
  ];
  const listed = await Promise.all(
    rows.map(async ({ problem, ...row }) => {
      const facts = await factsOf(row.folder);
      const why = problem ?? facts.problem;
      return { ...row, ...facts, ...(why === undefined ? {} : { problem: why }) };
    }),
  );
  const isAside = ({ state }: ListedGeneration) => state === 'quarantined';
  return [...newestFirst(listed.filter((one) => !isAside(one))), ...listed.filter(isAside)];
}

async function factsOf(folder: string): Promise<Pick<ListedGeneration, 'bytes' | 'created' | 'items' | 'problem'>> {
  const bytes = await bytesOf(folder);
  try {
    const { created, items } = await readManifest(folder);
    return { bytes, created, items: items.count };
  } catch (error) {
    return { bytes, problem: (error as Error).message };
  }
}

/** A folder that is collected meanwhile has what is left of it. */
async function bytesOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => []);
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      stat(join(entry.parentPath, entry.name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
