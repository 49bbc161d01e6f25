/** What the server does right now: requests, latency, degraded answers, recall of sampled ones, the event loop. A modal dialog. */
import { asEnvelope, getText } from './api.js';
import { createDialog } from './dialog.js';
import { h, replace } from './dom.js';
import { createLivePlot, type PlotLine } from './live-plot.js';
import { type Moment, momentBetween, type Reading, readMetrics } from './live-metrics.js';

const EVERY_MS = 2000;
/** Two minutes. */
const LENGTH = 61;

const digits = (value: number): string =>
  value.toLocaleString('en', { maximumSignificantDigits: value >= 1000 ? 4 : 3 });
const ms = (value: number): string => `${digits(value)} ms`;
// Cut and not rounded: 99.96 % must not read as all.
const percent = (value: number): string => `${(Math.floor(value * 10_000 + 1e-6) / 100).toLocaleString('en')} %`;

export function createLive(): { readonly dialog: HTMLDialogElement; open(): void } {
  const status = h('p', { class: 'live-status', role: 'status' }, 'The first numbers come after two readings.');
  const common = { length: LENGTH, everySeconds: EVERY_MS / 1000 };
  const requests = createLivePlot({ ...common, title: 'Requests a second', format: digits, least: 1 });
  const latency = createLivePlot({ ...common, title: 'Latency in the server', format: ms, least: 1 });
  const recall = createLivePlot({
    ...common,
    title: 'Recall of sampled answers',
    format: percent,
    from: 0.9,
    least: 1,
    most: 1,
  });
  const loop = createLivePlot({ ...common, title: 'Event-loop delay', format: ms, least: 1 });
  const dialog = createDialog(
    'live',
    'Live',
    status,
    h('div', { class: 'live-plots' }, requests.element, latency.element, recall.element, loop.element),
  );

  const moments: Moment[] = [];
  const line = (name: string, kind: PlotLine['kind'], of: (moment: Moment) => number | undefined): PlotLine => ({
    name,
    kind,
    values: moments.map(of),
  });
  const draw = (): void => {
    requests.draw([
      line('answered', 'a', ({ perSecond }) => perSecond),
      line('degraded', 'b', ({ degradedPerSecond }) => degradedPerSecond),
      line('failed', 'c', ({ failedPerSecond }) => failedPerSecond),
    ]);
    latency.draw([line('p50', 'a', ({ p50Ms }) => p50Ms), line('p99', 'b', ({ p99Ms }) => p99Ms)]);
    recall.draw([line('recall', 'a', (moment) => moment.recall)]);
    loop.draw([line('p99', 'a', ({ loopMs }) => loopMs)]);
  };
  draw();

  let followers = 0;
  /** Follows the server while the dialog is open, and is not opened anew. */
  async function follow(): Promise<void> {
    const own = ++followers;
    let before: Reading | undefined;
    moments.length = 0;
    while (dialog.open && own === followers) {
      try {
        const now = readMetrics(await getText('/metrics'), performance.now());
        const moment = before === undefined ? undefined : momentBetween(before, now);
        before = now;
        if (moment !== undefined) {
          moments.push(moment);
          if (moments.length > LENGTH) moments.shift();
          replace(status, saying(moment));
        }
      } catch (error) {
        before = undefined;
        replace(status, h('span', { class: 'error-text' }, asEnvelope(error).message));
      }
      draw();
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }
  return {
    dialog,
    open() {
      dialog.showModal();
      void follow();
    },
  };
}

function saying({ perSecond, recall }: Moment): string {
  const asked = perSecond === 0 ? 'Nothing is asked.' : `${digits(perSecond)} requests a second.`;
  return recall === undefined ? `${asked} No answer has been sampled for recall.` : asked;
}
