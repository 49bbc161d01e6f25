/** The generations of the console page: reports, a refused build, the way back. Pictures go to test-results/. */
import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildGeneration } from '../../src/generation/build.js';
import { temporaryFolder, makeModelsFolder } from '../support/folders.js';
import { twoTower } from '../support/two-tower.js';
import { findChromium, launchChromium, openPage } from './chromium.js';
import { type Service, startService } from './server.js';

const PICTURES = fileURLToPath(new URL('../../test-results/', import.meta.url));
const DIMS = 32;
const chromiumPath = findChromium();

describe.skipIf(chromiumPath === undefined)('generations on the console page', () => {
  const models = temporaryFolder({ keep: true });
  const data = temporaryFolder({ keep: true });
  let service: Service;
  let browser: Browser;
  let first: string;
  let second: string;

  beforeAll(async () => {
    mkdirSync(PICTURES, { recursive: true });
    const { items, users } = twoTower(6000, 3000, DIMS, 4);
    const folder = (count: number) =>
      makeModelsFolder(models, {
        items: { data: items.slice(0, count * DIMS), dims: DIMS },
        users: { data: users, dims: DIMS },
      });
    ({ id: first } = await buildGeneration({ models: folder(5500), data }));
    ({ id: second } = await buildGeneration({ models: folder(6000), data }));
    service = await startService(['--models', models, '--data', data]);
    browser = await launchChromium(chromiumPath!);
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
    rmSync(models, { recursive: true });
    rmSync(data, { recursive: true });
  });

  async function visit(
    steps: (page: Page) => Promise<void>,
    options: Parameters<typeof openPage>[2] = {},
  ): Promise<void> {
    const watched = await openPage(browser, service.admin, options);
    try {
      await watched.page.goto(`${service.admin}/`);
      await watched.page.getByRole('button', { name: 'Generations' }).click();
      await watched.page.locator('.generation-card').first().waitFor();
      await steps(watched.page);
      expect(watched.problems).toEqual([]);
    } finally {
      await watched.close();
    }
  }

  const card = (page: Page, id: string) => page.locator('.generation-card', { hasText: id }).first();
  const openReport = async (page: Page, id: string) => {
    await card(page, id).getByText('Report').click();
    const picture = card(page, id).locator('img.curve');
    await picture.waitFor();
    await expect
      .poll(() => picture.evaluate((image) => (image as unknown as { naturalWidth: number }).naturalWidth))
      .toBeGreaterThan(0);
  };

  it('shows what each build measured and how it differs from the one before', async () => {
    await visit(async (page) => {
      expect(await page.locator('.generation-head code').allTextContents()).toEqual([second, first]);
      expect(await card(page, second).locator('.badge').textContent()).toBe('serving');
      await openReport(page, second);
      const report = card(page, second).locator('.report');
      expect(await report.locator('.gate h4').allTextContents()).toEqual([
        'input passed',
        'skew not checked',
        'recall passed',
        'canaries passed',
      ]);
      const text = await report.innerText();
      expect(text).toMatch(/recall@10\s+[01]\.?\d*\s+\u2265 0\.9/);
      expect(text).toMatch(/items\s+5,500\s+6,000\s+500 added, 0 removed/);
      expect(text).toContain('0 of 5,500 items moved');
      await page.screenshot({ path: `${PICTURES}generations-light.png` });
    });
  });

  it.each([
    ['dark', { colorScheme: 'dark' }],
    ['narrow', { viewport: { width: 400, height: 860 } }],
  ] as const)('fits, %s', async (name, options) => {
    await visit(async (page) => {
      await openReport(page, second);
      const dialog = page.getByRole('dialog', { name: 'Generations' });
      expect(await dialog.evaluate((one) => one.scrollWidth <= one.clientWidth)).toBe(true);
      await page.screenshot({ path: `${PICTURES}generations-${name}.png` });
      await card(page, second).locator('img.curve').scrollIntoViewIfNeeded();
      await page.screenshot({ path: `${PICTURES}generations-${name}-curve.png` });
    }, options);
  });

  it('shows why a build was refused, with the numbers', async () => {
    const { items, users } = twoTower(6000, 3000, DIMS, 4);
    makeModelsFolder(models, {
      items: { data: items.slice().reverse(), dims: DIMS },
      users: { data: users, dims: DIMS },
    });
    const started = await fetch(`${service.admin}/admin/rebuild`, { method: 'POST' });
    expect(started.status).toBe(202);
    const state = async () => (await (await fetch(`${service.admin}/admin/rebuild`)).json()) as { state: string };
    await expect.poll(async () => (await state()).state, { timeout: 60_000, interval: 500 }).toBe('idle');
    await visit(async (page) => {
      const problem = page.getByRole('dialog', { name: 'Generations' }).locator('.error');
      expect(await problem.locator('.badge').textContent()).toBe('BELFRY_CANARIES');
      expect(await problem.locator('.gate h4').last().textContent()).toBe('canaries failed');
      expect(await card(page, second).locator('.badge').textContent()).toBe('serving');
      await page.screenshot({ path: `${PICTURES}generations-refused.png` });
    });
  });

  it('goes back and forth, after a second thought, with the keyboard', async () => {
    await visit(async (page) => {
      const back = card(page, first).getByRole('button', { name: `Roll back to ${first}` });
      await back.press('Enter');
      await card(page, first).getByRole('button', { name: 'No' }).press('Enter');
      expect(await page.locator('#generation').textContent()).toContain(second);
      await back.press('Enter');
      await page.keyboard.press('Enter'); // the focus is on "Yes, serve it"
      await page.locator('#generation', { hasText: first }).waitFor();
      expect(await (await fetch(`${service.address}/readyz`)).json()).toMatchObject({ generation: first });

      await page.getByRole('button', { name: 'Generations' }).click();
      expect(await card(page, first).locator('.badge').textContent()).toBe('serving');
      await card(page, second).getByRole('button', { name: 'Roll back' }).click();
      await card(page, second).getByRole('button', { name: 'Yes, serve it' }).click();
      await page.locator('#generation', { hasText: second }).waitFor();
    });
  });
});
