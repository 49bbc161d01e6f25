/** The thread of one generator: runs its task, tells every quarter of a second how it goes, and answers the recording. */
import { parentPort, workerData } from 'node:worker_threads';
import { Generator, type GeneratorTask } from './generator.js';
import { newHistogram, type PackedRecording, packRecording, percentileMs } from './recording.js';
import type { StepCounts } from './measures.js';

/** Since the message before; `p50` and `p99` in milliseconds, null without an answer. */
export interface LiveCounts {
  readonly offered: number;
  readonly answered: number;
  readonly errors: number;
  readonly degraded: number;
  readonly p50: number | null;
  readonly p99: number | null;
  /** Of the whole run so far, by the window in which requests were due. */
  readonly windows: readonly StepCounts[];
}
export type GeneratorMessage = { readonly live: LiveCounts } | { readonly recording: PackedRecording };

const LIVE_MS = 250;

const port = parentPort;
if (port === null) throw new Error('generator-worker.js runs as a worker thread');
const generator = new Generator(workerData as GeneratorTask);
port.on('message', (message: 'stop') => {
  if (message === 'stop') generator.stop();
});

const tell = setInterval(() => {
  const { live } = generator;
  const { offered, answered, errors, degraded, latency } = live;
  const p50 = percentileMs(latency, 50);
  const p99 = percentileMs(latency, 99);
  const windows = generator.countsByWindow();
  port.postMessage({ live: { offered, answered, errors, degraded, p50, p99, windows } } satisfies GeneratorMessage);
  Object.assign(live, { offered: 0, answered: 0, errors: 0, degraded: 0, latency: newHistogram() });
}, LIVE_MS);

const recording = await generator.run();
clearInterval(tell);
port.postMessage({ recording: packRecording(recording) } satisfies GeneratorMessage);
port.close();
