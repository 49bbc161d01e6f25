/** Which versions the aliases of a models folder name, asked for now and then: an alias that moves is a new export. */
import type { MlflowSettings } from '../config/mlflow.js';
import { versionsNow } from './bring-models.js';

/** Each look is a request or more of the registry. */
const ASK_MS = 10_000;

export class MovedVersions {
  private known = '';
  private askedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly modelsFolder: string,
    private readonly settings: MlflowSettings,
    private readonly onError: (error: unknown) => void,
    private readonly askMs = ASK_MS,
  ) {}

  /** One text for all of them; empty without any. While the registry cannot be asked, what it said last. */
  async now(): Promise<string> {
    if (performance.now() - this.askedAt < this.askMs) return this.known;
    this.askedAt = performance.now();
    try {
      this.known = await versionsNow(this.modelsFolder, this.settings);
    } catch (error) {
      this.onError(error);
    }
    return this.known;
  }
}
