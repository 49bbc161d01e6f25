/** The page as a person uses it: the built page, the real service, a headless Chromium. Pictures go to test-results/. */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findChromium, launchChromium, openPage, type Watched } from './chromium.js';
import { type Service, startService } from './server.js';

const PICTURES = fileURLToPath(new URL('../../test-results/', import.meta.url));
const chromiumPath = findChromium();

it('finds a Chromium', (context) => {
  if (chromiumPath !== undefined) return;
  const message = 'no Chromium found: install it (apt-get install chromium), or set CHROMIUM_PATH';
  if (process.env.CI) throw new Error(message);
  context.skip(message);
});

describe.skipIf(chromiumPath === undefined)('console page', () => {
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

  /** Opens the page, runs the steps, and holds the page to its promises: no console errors, no other origin. */
  async function visit(
    hash: string,
    steps: (page: Page, watched: Watched) => Promise<void>,
    options: Parameters<typeof openPage>[2] = {},
  ): Promise<void> {
    const watched = await openPage(browser, service.admin, options);
    try {
      await watched.page.goto(`${service.admin}/${hash}`);
      await steps(watched.page, watched);
      expect(watched.problems).toEqual([]);
    } finally {
      await watched.close();
    }
  }

  const rows = (page: Page) => page.locator('tbody:not(.below) tr.result');
  const names = (page: Page) => rows(page).locator('.item-name').allTextContents();
  const settled = (page: Page) => page.locator('.answer[aria-busy="false"] tr.result').first().waitFor();
  const snap = (page: Page, name: string) => page.screenshot({ path: `${PICTURES}${name}.png`, fullPage: true });

  it('opens with the top 10 of a sample user, re-ranked, and says what is served', async () => {
    await visit('', async (page) => {
      await settled(page);
      expect(await rows(page).count()).toBe(10);
      expect(await page.locator('#generation').textContent()).toContain(service.generation);
      expect(await page.locator('#ready').textContent()).toBe('ready');
      expect(await page.locator('#models .stage').allTextContents()).toEqual([
        'production',
        'ab-test',
        expect.stringMatching(/^(shadow|staging)$/),
        'not run here',
      ]);
      expect(await page.locator('[role=status].sr-only').textContent()).toMatch(
        /^10 items returned, re-ranked by dlrm@1.0: /,
      );
    });
  });

  it('finds a known user by typing, with the keyboard alone', async () => {
    await visit('#user=vlc&rerank=off', async (page) => {
      await settled(page);
      const before = await names(page);
      const search = page.getByRole('combobox', { name: 'User' });
      await search.fill('ngin');
      await page.getByRole('option', { name: 'nginx', exact: true }).waitFor();
      await search.press('ArrowDown');
      expect(await search.getAttribute('aria-activedescendant')).not.toBeNull();
      await search.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'Top 10 for nginx' }).waitFor();
      await settled(page);
      expect(await rows(page).count()).toBe(10);
      expect(await names(page)).not.toEqual(before);
      expect(page.url()).toMatch(/#user=nginx/);
      await page.goBack();
      await page.getByRole('heading', { level: 1, name: 'Top 10 for vlc' }).waitFor();
      expect(await names(page)).toEqual(before);
    });
  });

  it('shows who moved when re-ranking is switched on', async () => {
    await visit('#user=nginx&rerank=off', async (page) => {
      await settled(page);
      const retrieval = await names(page);
      expect(await page.locator('.mark').count()).toBe(0);
      await page.getByRole('switch', { name: 'Re-rank' }).check();
      await page.locator('svg.slope').waitFor();
      const reranked = await names(page);
      expect(reranked).toHaveLength(10);
      expect(reranked).not.toEqual(retrieval);

      // The left side is the order that retrieval gave, with those who left the top ten among it.
      const entered = reranked.filter((name) => !retrieval.includes(name));
      await page.locator('tr.dropped').first().waitFor();
      expect((await page.locator('.before .slot-name').allTextContents()).slice(0, 10)).toEqual(retrieval);
      expect(await page.locator('tr.dropped .item-name').allTextContents()).toEqual(
        expect.arrayContaining(retrieval.filter((name) => !reranked.includes(name))),
      );
      expect(await page.locator('svg.slope .line').count()).toBe(10 + entered.length);

      // Each mark says from where to where, and agrees with the rank beside the retrieval score.
      for (const [at, row] of (await rows(page).all()).entries()) {
        const rank = Number((await row.locator('.retrieval small').textContent())!.replace('#', ''));
        const spoken = await row.locator('.mark .sr-only').textContent();
        const by = Math.abs(rank - (at + 1));
        const direction = rank > at + 1 ? 'up' : 'down';
        expect(spoken).toBe(by === 0 ? 'did not move' : `${direction} ${by}, from ${rank}`);
      }

      // A line and its row light up together.
      await rows(page).nth(0).hover();
      expect(await page.locator('svg.slope .line.on').getAttribute('data-id')).toBe(reranked[0]);
      expect(await page.locator('.slot.on .slot-name').textContent()).toBe(reranked[0]);
    });
  });

  it('shows the stages of the time and the exact request', async () => {
    await visit('#user=nginx', async (page) => {
      await settled(page);
      const legend = (await page.locator('.time-legend li').allTextContents()).join(' ');
      for (const stage of ['query vector', 'search', 're-rank', 'total', 'round trip']) expect(legend).toContain(stage);
      expect(await page.locator('.explain').textContent()).toMatch(/kernels.*rows.*depth 500.*500 re-ranked/);
      await page.locator('details.request summary').click();
      const body = JSON.parse((await page.getByLabel('Request body').textContent())!) as Record<string, unknown>;
      expect(body).toMatchObject({ user_id: 'nginx', k: 10, rerank: true, candidates: 500, explain: true });
      const curl = (await page.getByLabel('curl command').textContent())!;
      expect(curl).toBe(
        `curl -s ${service.admin}/retrieve -H 'content-type: application/json' -d '${JSON.stringify(body)}'`,
      );
    });
  });

  it('embeds a new user from item names', async () => {
    await visit('', async (page) => {
      await settled(page);
      await page.getByRole('tab', { name: 'New user' }).click();
      await page.locator('.empty').getByText('one item is enough').waitFor();
      const history = page.getByRole('combobox', { name: /history/i });
      for (const name of ['python3-numpy', 'python3-scipy']) {
        await history.fill(name);
        await page.getByRole('option', { name, exact: true }).waitFor();
        await history.press('Enter');
      }
      await page.getByRole('heading', { level: 1, name: 'Top 10 for a new user' }).waitFor();
      await settled(page);
      expect(await page.locator('.token span').allTextContents()).toEqual(['python3-numpy', 'python3-scipy']);
      expect(await rows(page).count()).toBe(10);
      expect((await names(page)).filter((name) => name.startsWith('python3')).length).toBeGreaterThan(0);
      expect(await page.locator('.time-legend').textContent()).toContain('user tower');
      expect(decodeURIComponent(page.url())).toContain('"history":["python3-numpy","python3-scipy"]');
      await snap(page, 'new-user');

      const seen = await names(page);
      await page.reload();
      await settled(page);
      expect(await names(page)).toEqual(seen);
    });
  });

  it('filters, and says why nothing is left', async () => {
    await visit('#user=nginx&rerank=off', async (page) => {
      await settled(page);
      await page.getByRole('button', { name: 'Add a condition' }).click();
      await page.getByLabel('Condition 1: column').selectOption('section');
      await page.getByLabel('Condition 1: value').fill('httpd');
      await page.locator('.explain').getByText('admitted').waitFor();
      expect(new Set(await rows(page).locator('td.meta').first().allTextContents())).toEqual(new Set(['httpd']));
      await page.getByLabel('Condition 1: value').fill('no such section');
      await page.locator('.empty').waitFor();
      expect(await page.locator('.empty').textContent()).toMatch(/^The filter admits 0 of [\d,]+ items\./);
    });
  });

  it('opens an item: metadata, similar items, and takes it into the history of a new user', async () => {
    await visit('#user=nginx', async (page) => {
      await settled(page);
      const [first] = await names(page);
      await rows(page).first().locator('.item-name').click();
      const drawer = page.getByRole('dialog', { name: first! });
      await drawer.locator('.similar li').first().waitFor();
      expect(await drawer.locator('.similar li').count()).toBe(10);
      expect(await drawer.locator('dt').allTextContents()).toContain('section');
      await snap(page, 'drawer');
      await drawer.getByRole('button', { name: 'Add to history' }).click();
      await page.getByRole('heading', { level: 1, name: 'Top 10 for a new user' }).waitFor();
      expect(await drawer.count()).toBe(0);
      expect(await page.locator('.token span').allTextContents()).toEqual([first]);
    });
  });

  it('shows an error in its place, with code, message and request id, and marks the field', async () => {
    await visit('#user=nginx', async (page, { problems }) => {
      await settled(page);
      await page.getByLabel('Top k').fill('5000');
      const error = page.getByRole('alert');
      await error.waitFor();
      expect(await error.locator('.badge').textContent()).toBe('BELFRY_INVALID_ARGUMENT');
      expect(await error.locator('.error-text').textContent()).toMatch(/^k: expected .*1000.* received 5000/);
      expect(await error.textContent()).toMatch(/request [0-9a-f-]{36}/);
      expect(await page.getByLabel('Top k').getAttribute('aria-invalid')).toBe('true');
      await snap(page, 'error');

      await page.getByLabel('Top k').fill('5');
      await page.getByRole('heading', { level: 1, name: 'Top 5 for nginx' }).waitFor();
      expect(await rows(page).count()).toBe(5);
      expect(await page.getByLabel('Top k').getAttribute('aria-invalid')).toBeNull();
      // The browser itself reports the refused request; nothing else may be there.
      expect(problems.splice(0)).toEqual([expect.stringMatching(/status of 400/)]);
    });
  });

  it('treats what the service answers as text', async () => {
    const id = '<img src=x onerror="document.title=1"><b>bold</b>';
    const item = { id, score: 2, retrieval_score: 1, retrieval_rank: 1, metadata: { section: '<script>1</script>' } };
    const answer = { items: [item], generation: service.generation, models: {}, degraded: ['<i>odd</i>'], returned: 1 };
    const watched = await openPage(browser, service.admin);
    try {
      await watched.page.route('**/retrieve', (route) => route.fulfill({ json: answer }));
      await watched.page.goto(`${service.admin}/#user=nginx&show=${encodeURIComponent('["section"]')}`);
      await settled(watched.page);
      expect(await rows(watched.page).locator('.item-name').textContent()).toBe(id);
      expect(await rows(watched.page).locator('td.meta').textContent()).toBe('<script>1</script>');
      expect(await watched.page.locator('.degraded code').textContent()).toBe('<i>odd</i>');
      expect(await watched.page.locator('.content img, .content b b, .content script').count()).toBe(0);
      expect(await watched.page.title()).toBe('Belfry console');
      expect(watched.problems).toEqual([]);
    } finally {
      await watched.close();
    }
  });

  it('drops the answer of a request that was superseded', async () => {
    await visit('#user=nginx&rerank=off', async (page) => {
      await settled(page);
      // The answer for vlc is held back until the one for gimp stands.
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      await page.route('**/retrieve', async (route) => {
        if (route.request().postData()?.includes('"vlc"')) await held;
        await route.continue().catch(() => undefined); // the page has given this request up
      });
      const search = page.getByRole('combobox', { name: 'User' });
      const asked = page.waitForRequest((request) => request.postData()?.includes('"vlc"') === true);
      await search.fill('vlc');
      await search.press('Enter');
      await asked;
      await search.fill('gimp');
      await search.press('Enter');
      await page.getByRole('heading', { level: 1, name: 'Top 10 for gimp' }).waitFor();
      await settled(page);
      const gimp = await names(page);
      release();
      await page.waitForTimeout(300);
      expect(await page.getByRole('heading', { level: 1 }).textContent()).toBe('Top 10 for gimp');
      expect(await names(page)).toEqual(gimp);
    });
  });

  it('takes the picture of the README', async () => {
    // Copied by hand to docs/console.png when the page or the sample has changed.
    await visit(
      '#user=nginx',
      async (page) => {
        await page.locator('tr.dropped').first().waitFor();
        await page.waitForTimeout(250); // the fade of the answer
        await snap(page, 'readme');
      },
      { viewport: { width: 1440, height: 800 }, deviceScaleFactor: 1.25 },
    );
  });

  it('is whole in light, in dark and on a narrow screen', async () => {
    const grounds: string[] = [];
    for (const [name, width, height, colorScheme] of [
      ['desktop-light', 1440, 900, 'light'],
      ['desktop-dark', 1440, 900, 'dark'],
      ['tablet', 900, 1100, 'light'],
      ['narrow', 400, 860, 'light'],
    ] as const) {
      await visit(
        '#user=gimp',
        async (page) => {
          await settled(page);
          await page.locator('tr.dropped').first().waitFor();
          await page.waitForTimeout(250); // the fade of the answer
          await snap(page, name);
          const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
          expect(overflow, `${name} scrolls sideways`).toBe(0);
          grounds.push(String(await page.evaluate('getComputedStyle(document.body).backgroundColor')));
        },
        { viewport: { width, height }, colorScheme },
      );
    }
    expect(grounds[0]).not.toBe(grounds[1]);
  });
});
