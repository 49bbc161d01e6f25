/** O3: a sink that takes no lines stops nobody; what it misses is counted. */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { openLogSink } from '../../../src/telemetry/log-sink.js';
import { temporaryFolder } from '../../support/folders.js';

it('O3: lines for a reader that reads nothing are dropped and counted, and logging takes no longer', async () => {
  const pipe = join(temporaryFolder(), 'log');
  expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
  const sink = openLogSink(writer, 64 * 1024);
  const logger = pino({ level: 'info' }, sink.stream);
  const text = 'x'.repeat(1000);
  const started = performance.now();
  for (let line = 0; line < 2000; line++) {
    logger.info(text);
    if (line % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(performance.now() - started).toBeLessThan(2000);
  let dropped = 0;
  sink.onDrop((lines) => (dropped += lines));
  // The pipe holds 64 KiB, the sink as much: most of two megabytes are gone.
  expect(dropped).toBeGreaterThan(1500);
  expect(dropped).toBeLessThan(2000);

  // A reader that reads again gets lines again.
  const bytes = Buffer.alloc(1 << 20);
  const read = () => {
    try {
      return readSync(reader, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
      throw error;
    }
  };
  let heard = '';
  await expect
    .poll(
      () => {
        logger.info('back again');
        heard += bytes.toString('utf8', 0, read());
        return heard.includes('back again');
      },
      { timeout: 5000 },
    )
    .toBe(true);
  (sink.stream as ReturnType<typeof pino.destination>).destroy();
  closeSync(reader);
});
