/**
 * A circuit breaker around anything that answers requests and may stop doing so: a scorer, a model server, a feature
 * store. Closed, it lets all through; open, none, so that requests do not wait for what will not come; half-open, one
 * probe at a time, so that whatever comes back is not run over.
 */
import { BelfryError } from '../errors.js';

export type BreakerState = 'closed' | 'open' | 'half-open';

export interface BreakerOptions {
  /** What messages call it: `dcn-v2@0.9`. */
  readonly name: string;
  /** Failures one after the other that open it. */
  readonly failuresInARow?: number;
  /** Share of failures that opens it, among at least `callsAtLeast` in `windowMs`. */
  readonly failureShare?: number;
  readonly callsAtLeast?: number;
  readonly windowMs?: number;
  /** How long it stays open before the first probe; twice as long after each probe that fails, up to `openMaxMs`. */
  readonly openMs?: number;
  readonly openMaxMs?: number;
  /**
   * Looks in the background whether it is back; resolves when it is. Without it the next call is the probe, which costs
   * its caller the wait.
   */
  readonly probe?: (() => Promise<void>) | undefined;
  readonly onChange?: ((state: BreakerState, cause: Error | undefined) => void) | undefined;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

export const BREAKER_DEFAULTS = {
  failuresInARow: 5,
  failureShare: 0.5,
  callsAtLeast: 20,
  windowMs: 2000,
  openMs: 500,
  openMaxMs: 5000,
} as const;

/** Calls that were given less than this many usual durations were hopeless: their lateness says nothing. */
const FAIR_DURATIONS = 2;
/** Before any success is known, a call that had this long was fair. */
const FAIR_MS = 20;
/**
 * Whoever answered this lately is not hanging: calls that are late beside those that are in time are a matter of load, which
 * admission is for. Opening would take away the answers that do come.
 */
const ALIVE_MS = 300;
/** Weight of a new duration in the usual one. */
const SMOOTHING = 0.1;

export class Breaker {
  readonly name: string;
  readonly #options: Required<Omit<BreakerOptions, 'name' | 'onChange' | 'probe'>>;
  readonly #onChange: NonNullable<BreakerOptions['onChange']>;
  readonly #probe: BreakerOptions['probe'];
  #state: BreakerState = 'closed';
  #inARow = 0;
  #calls = 0;
  #failures = 0;
  #windowStart = 0;
  #openUntil = 0;
  #openMs = 0;
  #closedAt = Number.NEGATIVE_INFINITY;
  #hasProbe = false;
  /** Calls that began before the last change are answers about the past. */
  #epoch = 0;
  #usualMs: number | undefined;
  #succeededAt = Number.NEGATIVE_INFINITY;
  #cause: Error | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor({ name, onChange, probe, ...options }: BreakerOptions) {
    this.name = name;
    this.#probe = probe;
    this.#options = { ...BREAKER_DEFAULTS, now: () => performance.now(), ...options };
    this.#onChange = onChange ?? (() => undefined);
    this.#openMs = this.#options.openMs;
    this.#windowStart = this.#options.now();
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** What opened it last; undefined once it is closed. */
  get cause(): Error | undefined {
    return this.#cause;
  }

  /** Opens it at once, for what is known to be down. */
  trip(cause: Error): void {
    this.#open(cause, this.#options.openMs);
  }

  /** No more probes in the background. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /**
   * Runs `work` unless the circuit is open. `judge` looks at a result that came and says whether it was a failure after
   * all. Errors: BELFRY_CIRCUIT_OPEN without a call; those of `work`.
   */
  async run<T>(work: () => Promise<T>, judge?: (result: T) => Error | undefined): Promise<T> {
    const started = this.#options.now();
    const isProbe = this.#admit(started);
    const epoch = this.#epoch;
    let failure: unknown;
    try {
      const result = await work();
      failure = judge?.(result);
      return result;
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      if (isProbe) this.#hasProbe = false;
      if (epoch === this.#epoch) this.#record(failure, this.#options.now() - started);
    }
  }

  /** Whether the call is a probe. */
  #admit(now: number): boolean {
    const probesByCall = this.#probe === undefined;
    if (probesByCall && this.#state === 'open' && now >= this.#openUntil) this.#change('half-open', this.#cause);
    if (this.#state === 'closed') return false;
    if (probesByCall && this.#state === 'half-open' && !this.#hasProbe) {
      this.#hasProbe = true;
      return true;
    }
    throw new BelfryError(
      'BELFRY_CIRCUIT_OPEN',
      `${this.name} failed (${this.#cause?.message ?? 'unknown'}); it is tried again in ${Math.max(0, Math.ceil(this.#openUntil - now))} ms`,
      { field: this.name, cause: this.#cause },
    );
  }

  #record(failure: unknown, ms: number): void {
    if (failure === undefined) return this.#succeeded(ms);
    const kind = kindOf(failure);
    if (kind === 'not its fault') return;
    if (kind === 'late' && this.#state === 'closed' && this.#options.now() - this.#succeededAt < ALIVE_MS) return;
    const isFair = kind === 'failed' || ms >= (this.#usualMs === undefined ? FAIR_MS : FAIR_DURATIONS * this.#usualMs);
    const cause = failure as Error;
    if (this.#state === 'half-open') {
      if (isFair) this.#open(cause, Math.min(this.#openMs * 2, this.#options.openMaxMs));
      return;
    }
    this.#count(true);
    if (isFair) this.#inARow++;
    const { failuresInARow, failureShare, callsAtLeast } = this.#options;
    const isManyOf = this.#calls >= callsAtLeast && this.#failures / this.#calls >= failureShare;
    if (this.#inARow >= failuresInARow || isManyOf) this.#open(cause, this.#firstWait());
  }

  /** What passes its probes and fails its calls must not take five of them every half second. */
  #firstWait(): number {
    const { now, openMs, openMaxMs } = this.#options;
    return now() - this.#closedAt < openMaxMs ? Math.min(this.#openMs * 2, openMaxMs) : openMs;
  }

  #succeeded(ms: number): void {
    this.#usualMs = this.#usualMs === undefined ? ms : this.#usualMs + SMOOTHING * (ms - this.#usualMs);
    this.#inARow = 0;
    this.#succeededAt = this.#options.now();
    if (this.#state === 'half-open') {
      this.#closedAt = this.#options.now();
      return this.#change('closed', undefined);
    }
    this.#count(false);
  }

  #count(isFailure: boolean): void {
    const now = this.#options.now();
    if (now - this.#windowStart > this.#options.windowMs) {
      this.#calls = 0;
      this.#failures = 0;
      this.#windowStart = now;
    }
    this.#calls++;
    if (isFailure) this.#failures++;
  }

  #open(cause: Error, forMs: number): void {
    this.#openMs = forMs;
    // Several servers that saw the same outage do not all come back at the same moment.
    const wait = forMs * (0.8 + 0.4 * Math.random());
    this.#openUntil = this.#options.now() + wait;
    this.#change('open', cause);
    if (this.#probe === undefined || this.#isClosed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#probeNow(this.#probe!), wait).unref();
  }

  async #probeNow(probe: () => Promise<void>): Promise<void> {
    this.#change('half-open', this.#cause);
    const started = this.#options.now();
    const failure = await probe().then(
      () => undefined,
      (error: unknown) => error as Error,
    );
    if (this.#isClosed) return;
    if (failure === undefined) this.#succeeded(this.#options.now() - started);
    else this.#open(failure, Math.min(this.#openMs * 2, this.#options.openMaxMs));
  }

  #change(state: BreakerState, cause: Error | undefined): void {
    this.#state = state;
    this.#cause = cause;
    this.#epoch++;
    this.#inARow = 0;
    this.#calls = 0;
    this.#failures = 0;
    this.#windowStart = this.#options.now();
    this.#onChange(state, cause);
  }
}

const NOT_ITS_FAULT = new Set(['BELFRY_OVERLOADED', 'BELFRY_CLOSED', 'BELFRY_CIRCUIT_OPEN']);

/** Bad requests and full queues of our own say nothing about what stands behind the breaker. */
function kindOf(failure: unknown): 'failed' | 'late' | 'not its fault' {
  if (!(failure instanceof BelfryError)) return 'failed';
  if (failure.code === 'BELFRY_DEADLINE_EXCEEDED') return 'late';
  if (NOT_ITS_FAULT.has(failure.code)) return 'not its fault';
  return failure.statusCode >= 400 && failure.statusCode < 500 ? 'not its fault' : 'failed';
}
