/** The HTML report of a bench, opened from disk. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeReport } from '../../src/bench/report/write.js';
import { parseReport } from '../../src/bench/report/schema.js';
import { temporaryFolder } from '../support/folders.js';
import { findChromium, launchChromium } from './chromium.js';

const REPORT = new URL('../fixtures/load-report.json', import.meta.url);
const path = findChromium();

describe.skipIf(path === undefined)('the report in a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launchChromium(path as string);
  });
  afterAll(() => browser.close());

  it.each(['light', 'dark'] as const)(
    'opens from disk without an error, tells values and hides series: %s',
    async (colorScheme) => {
      const folder = temporaryFolder();
      await writeReport(parseReport(readFileSync(REPORT, 'utf8'), 'fixture'), folder);
      const context = await browser.newContext({ colorScheme, viewport: { width: 1100, height: 900 }, offline: true });
      const page = await context.newPage();
      const problems: string[] = [];
      page.on('console', (message) => problems.push(message.text()));
      page.on('pageerror', (error) => problems.push(error.message));
      page.on('request', (request) => {
        if (!/^(file|data):/.test(request.url())) problems.push(request.url());
      });
      const html = pathToFileURL(join(folder, 'report.html')).href;
      await page.goto(html);
      const background = await page.evaluate(`getComputedStyle(document.body).backgroundColor`);
      expect(background).toBe(colorScheme === 'light' ? 'rgb(252, 252, 251)' : 'rgb(26, 26, 25)');

      const figure = page.locator('figure[data-plot="latency-timeline"]');
      await figure.scrollIntoViewIfNeeded();
      const box = (await figure.locator('svg').boundingBox())!;
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      const tip = page.locator('#tip');
      await expect.poll(() => tip.innerText()).toMatch(/time [\d.]+ s[\s\S]*p50[\s\S]*ms[\s\S]*p99/);

      await figure.locator('.legend').first().click();
      expect(await figure.locator('.series.off').count()).toBe(1);
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      await expect.poll(() => tip.innerText()).not.toMatch(/p50/);

      // Nothing is wider than the page, on a phone either.
      for (const width of [1100, 390]) {
        await page.setViewportSize({ width, height: 900 });
        expect(await page.evaluate(`document.documentElement.scrollWidth - innerWidth`)).toBeLessThanOrEqual(0);
      }
      // Each SVG is well-formed on its own.
      for (const id of ['latency-percentiles', 'throughput']) {
        await page.goto(pathToFileURL(join(folder, 'plots', `${id}.svg`)).href);
        expect(await page.evaluate(`document.documentElement.tagName`)).toBe('svg');
        expect(await page.evaluate(`document.querySelector('parsererror')`)).toBeNull();
      }
      expect(problems).toEqual([]);
      await context.close();
    },
  );
});
