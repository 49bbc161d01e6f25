/** A generation of one file, for tests of folders and pointers: valid for every check but loading. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BelfryError } from '../../src/errors.js';
import type { DataFolder } from '../../src/generation/data-folder.js';
import { writeDurable } from '../../src/generation/files.js';
import { type Manifest, MANIFEST_VERSION, writeManifest } from '../../src/generation/manifest.js';

const sha256 = '0'.repeat(64);
const norms = { min: 1, mean: 1, max: 1, p1: 1, p10: 1, p50: 1, p90: 1, p99: 1, sampled: 1 };

export async function publishTiny(data: DataFolder, id: string, content = 'vectors'): Promise<BelfryError | undefined> {
  return data.withWriterLock(async () => {
    const folder = data.newTemporary(id);
    mkdirSync(folder, { recursive: true });
    const facts = await writeDurable(join(folder, 'items.npy'), content, 'copy');
    const manifest: Manifest = {
      version: MANIFEST_VERSION,
      id,
      created: new Date(0).toISOString(),
      builder: { belfry: '0', node: '0', platform: 'test' },
      models_folder: '/models',
      export: {},
      metric: 'ip',
      items: {
        file: 'items.npy',
        count: 1,
        dims: 1,
        dtype: 'f4',
        idKind: 'row',
        norms,
        zeroVectors: 0,
        skippedRows: [],
      },
      search: { recall: 0.95 },
      models: [],
      pins: { itemExport: sha256, scorers: [], featureSchema: sha256 },
      sources: [],
      files: { 'items.npy': facts },
      canaries: { file: 'canaries.json', requests: 0, k: 10, towerUsers: 0, supplied: 0 },
      exampleUsers: [],
      gates: [],
      overrides: [],
      report: {},
      buildMs: 1,
    };
    await writeManifest(folder, manifest);
    return data.publish(folder, id);
  });
}
