/** What a build asks of the upserts since the last one: the interface that src/upserts/fold-in.ts fills. */
import type { ModelsFolder } from '../config/models-folder.js';
import type { IdMap } from '../ann/ids.js';
import type { Metric } from '../types.js';
import type { PublishedGeneration } from './data-folder.js';
import type { FileFacts } from './files.js';
import type { ModelEntry, SourceFile, UpsertsSection, VectorSection } from './manifest.js';

/** The export as it stands in the folder of the build, before anything is made of it. */
export interface BuildSoFar {
  /** Folder of the build. */
  readonly into: string;
  readonly folder: ModelsFolder;
  readonly metric: Metric;
  readonly models: readonly ModelEntry[];
  /** Of the file of the export. */
  readonly source: SourceFile;
  readonly section: ImportedSection;
  readonly itemIds: IdMap;
  readonly itemIdsFile: string | undefined;
  readonly previous: PublishedGeneration | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type ImportedSection = Omit<VectorSection, 'idsFile' | 'idKind' | 'norms'> & {
  readonly norms: Pick<VectorSection['norms'], 'min' | 'mean' | 'max'>;
};

/** The same files, with the upserts in them. */
export interface FoldedItems {
  readonly section: ImportedSection;
  readonly itemIdsFile: string | undefined;
  /** Files that were written or changed, relative to the folder of the build. */
  readonly files: Readonly<Record<string, FileFacts>>;
  readonly upserts: UpsertsSection;
}

export interface UpsertSource {
  /** Errors: BELFRY_UPSERT_LOG_CORRUPT, BELFRY_UPSERT_LOG_FAILED, those of the files that are written. */
  foldInto(build: BuildSoFar): Promise<FoldedItems>;
  /** After a publish: gives up what no kept generation needs. */
  published(): Promise<void>;
}
