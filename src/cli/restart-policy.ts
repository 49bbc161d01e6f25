/** When a worker that died is started again: at once, after a pause when it keeps dying, and in the end not at all. */

/** Who lived so long did not die of its start. */
const STABLE_MS = 10_000;
const PAUSE_MS = 500;
const PAUSE_MS_MAX = 15_000;
/** Deaths in a row, each soon after its start, after which the place stays empty: a crash loop only heats the machine. */
const DEATHS_MAX = 6;

/** Of one place among the workers. */
export class RestartPolicy {
  private deaths = 0;

  /** Milliseconds until the next start; undefined to give the place up. */
  afterDeath(livedMs: number): number | undefined {
    this.deaths = livedMs >= STABLE_MS ? 1 : this.deaths + 1;
    if (this.deaths >= DEATHS_MAX) return undefined;
    return this.deaths === 1 ? 0 : Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (this.deaths - 2));
  }
}
