/** The page of a server with keys: it is sent to the administrators' address, asks once, and administers. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { findChromium, launchChromium, openPage } from './chromium.js';
import { type Service, startService } from './server.js';

const chromiumPath = findChromium();

describe.skipIf(chromiumPath === undefined)('the page of a server with keys', () => {
  const folder = temporaryFolder({ keep: true });
  const file = join(folder, 'keys.json');
  let service: Service;
  let browser: Browser;
  let key: string;

  beforeAll(async () => {
    const models = makeModelsFolder(join(folder, 'models'), {
      items: { data: randomValues(300 * 8, 1), dims: 8 },
      users: { data: randomValues(300 * 8, 2), dims: 8 },
    });
    const scopes = ['retrieve', 'metrics', 'admin'];
    const made = ['dist/cli/main.js', 'keys', 'add', '--keys', file, '--name', 'ops', '--scopes', ...scopes, '--json'];
    ({ key } = JSON.parse(execFileSync(process.execPath, made, { encoding: 'utf8' })) as { key: string });
    service = await startService(['--models', models, '--data', join(folder, 'data'), '--keys', file]);
    browser = await launchChromium(chromiumPath!);
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
    rmSync(folder, { recursive: true });
  });

  it('asks for one, and shows reports and pictures with it', async () => {
    const { page, close } = await openPage(browser, service.admin);
    try {
      await page.goto(`${service.address}/`);
      expect(new URL(page.url()).origin).toBe(service.admin);
      const dialog = page.locator('dialog.key-dialog');
      await dialog.getByLabel('Key').fill(key);
      await dialog.getByRole('button', { name: 'Use' }).click();
      await page.locator('tbody tr, .result').first().waitFor();
      await page.getByRole('button', { name: 'Generations' }).click();
      const card = page.locator('.generation-card').first();
      await card.getByText('Report').click();
      const picture = card.locator('img.curve');
      await picture.waitFor();
      await expect
        .poll(() => picture.evaluate((image) => (image as unknown as { naturalWidth: number }).naturalWidth))
        .toBeGreaterThan(0);
      expect(page.url()).not.toContain(key);
    } finally {
      await close();
    }
  });
});
