import { describe, expect, it } from 'vitest';
import { buildGeneration } from '../../../src/generation/build.js';
import { DataFolder } from '../../../src/generation/data-folder.js';
import { hashFile } from '../../../src/generation/files.js';
import { expectError } from '../../support/expect-error.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../../support/folders.js';

describe('files listed by export.json', () => {
  it('must be those that are built from', async () => {
    const items = { data: randomValues(20 * 4, 1), dims: 4 };
    const file = 'embeddings/item_embeddings.npy';
    const models = makeModelsFolder(temporaryFolder(), { items });
    const { sha256 } = await hashFile(`${models}/${file}`);
    const data = temporaryFolder();
    const list = (files: Record<string, string>) =>
      makeModelsFolder(models, { files: { 'embeddings/export.json': JSON.stringify({ files }) } });
    list({ [file]: sha256.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) });
    const error = await expectError(
      () => buildGeneration({ models, data }),
      'BELFRY_EXPORT_INVALID',
      `the file has ${sha256}; the two are not of one export`,
    );
    expect(error.field).toBe(`files.${file}`);
    expect(await (await DataFolder.open(data)).ids()).toEqual([]);
    list({ [file]: sha256, 'models/elsewhere.pt': sha256 });
    expect((await buildGeneration({ models, data })).manifest.items.count).toBe(20);
  });
});
