/** The live panel of the console page, with requests under way. Pictures go to test-results/. */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findChromium, launchChromium, openPage } from './chromium.js';
import { type Service, startService } from './server.js';

const PICTURES = fileURLToPath(new URL('../../test-results/', import.meta.url));
const chromiumPath = findChromium();

describe.skipIf(chromiumPath === undefined)('the live panel', () => {
  let service: Service;
  let browser: Browser;

  beforeAll(async () => {
    mkdirSync(PICTURES, { recursive: true });
    service = await startService();
    browser = await launchChromium(chromiumPath!);
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
  });

  /** About fifty a second, some of which are degraded. */
  function keepAsking(): () => Promise<void> {
    const timer = setInterval(() => {
      const user_id = Math.random() < 0.2 ? 'nobody-of-this-name' : 'gimp';
      pending = fetch(`${service.address}/retrieve`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ user_id, k: 10 }),
      }).then((answer) => void answer.arrayBuffer());
    }, 20);
    let pending: Promise<void> = Promise.resolve();
    return async () => {
      clearInterval(timer);
      await pending;
    };
  }

  it.each([
    ['light', 'light', 1440],
    ['dark', 'dark', 1440],
    ['narrow', 'light', 400],
  ] as const)('shows what the server does, %s', async (name, colorScheme, width) => {
    const stopAsking = keepAsking();
    const { page, problems, close } = await openPage(browser, service.admin, {
      colorScheme,
      viewport: { width, height: 900 },
    });
    try {
      await page.goto(`${service.admin}/`);
      await page.getByRole('button', { name: 'Live', exact: true }).click();
      const dialog = page.getByRole('dialog', { name: 'Live' });
      await dialog.getByText(/requests a second\./).waitFor();
      await page.waitForTimeout(6500);
      const number = async (plot: string, line: string) => {
        const shown = dialog.locator('.live-plot', { hasText: plot }).locator('.live-legend span', { hasText: line });
        return Number.parseFloat(await shown.locator('b').innerText());
      };
      expect(await number('Requests a second', 'answered')).toBeGreaterThan(10);
      expect(await number('Requests a second', 'degraded')).toBeGreaterThan(1);
      expect(await number('Requests a second', 'failed')).toBe(0);
      expect(await number('Latency', 'p50')).toBeGreaterThan(0);
      expect(await number('Latency', 'p99')).toBeGreaterThanOrEqual(await number('Latency', 'p50'));
      expect(await number('Event-loop', 'p99')).toBeGreaterThanOrEqual(0);
      expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
      await page.screenshot({ path: `${PICTURES}live-${name}.png` });
      expect(problems).toEqual([]);
      // Closed, it asks no more.
      let asked = 0;
      page.on('request', (request) => (asked += request.url().endsWith('/metrics') ? 1 : 0));
      await dialog.getByRole('button', { name: 'Close' }).click();
      await page.waitForTimeout(4500);
      expect(asked).toBe(0);
    } finally {
      await stopAsking();
      await close();
    }
  });
});
