/** Builds by the clock: `every 30m`, or a cron expression in the time zone of the machine. */
import { Cron } from 'croner';
import { BelfryError } from '../errors.js';

const INTERVAL = /^every (\d{1,6}) ?(s|m|h|d)$/;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
/** Node's timers hold no more milliseconds. */
const SECONDS_MAX = 24 * 86_400;

export interface Schedule {
  /** When the next build starts. */
  next(): Date | null;
  stop(): void;
}

/** Calls `action` at each time until stopped; keeps no process alive. Error: BELFRY_CONFIG_INVALID. */
export function schedule(text: string, action: () => void): Schedule {
  const interval = INTERVAL.exec(text);
  if (interval !== null) return every(text, Number(interval[1]) * SECONDS[interval[2] as keyof typeof SECONDS], action);
  try {
    const cron = new Cron(text, { unref: true, mode: '5-part' }, action);
    if (cron.nextRun() === null) throw new Error('it never comes');
    return { next: () => cron.nextRun(), stop: () => cron.stop() };
  } catch (error) {
    throw refuse(text, (error as Error).message);
  }
}

/** Error: BELFRY_CONFIG_INVALID. */
export function assertSchedule(text: string): void {
  schedule(text, () => undefined).stop();
}

function every(text: string, seconds: number, action: () => void): Schedule {
  if (seconds < 1 || seconds > SECONDS_MAX) throw refuse(text, 'an interval is of 1 second to 24 days');
  let next = Date.now() + seconds * 1000;
  const timer = setInterval(() => {
    next = Date.now() + seconds * 1000;
    action();
  }, seconds * 1000).unref();
  return { next: () => new Date(next), stop: () => clearInterval(timer) };
}

function refuse(text: string, reason: string): BelfryError {
  return new BelfryError(
    'BELFRY_CONFIG_INVALID',
    `rebuild_schedule: expected "every 30m" (s, m, h or d) or a cron expression of five fields as "15 3 * * *", received ${JSON.stringify(text)}: ${reason}`,
    { field: 'rebuild_schedule' },
  );
}
