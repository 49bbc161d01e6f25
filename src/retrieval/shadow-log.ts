/**
 * What shadows scored, as JSON lines under the data folder. A file is closed at its bound and another begun; the oldest go
 * when all together pass theirs. Nobody waits for the disk: lines that it does not take in time are dropped and counted.
 */
import { type FileHandle, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { asBelfryError, type BelfryError } from '../errors.js';
import type { TrafficMetrics } from '../telemetry/traffic-metrics.js';

export interface ShadowLogOptions {
  readonly folder: string;
  readonly fileBytes: number;
  /** Of all files of the folder, those of other processes too. */
  readonly totalBytes: number;
  readonly metrics: TrafficMetrics;
  readonly onProblem: (error: BelfryError) => void;
}

/** Bytes that may wait for the disk. */
const WAITING_MAX = 4 * 1024 * 1024;
/** After a failure nothing is written for this long: a full disk is not asked again for each line. */
const RETRY_MS = 10_000;
const NAME = /^shadow-.+\.jsonl$/;

export class ShadowLog {
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #writing: Promise<void> | undefined;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  #files = 0;
  #quietUntil = 0;

  constructor(private readonly options: ShadowLogOptions) {}

  add(record: Readonly<Record<string, unknown>>): void {
    const { metrics } = this.options;
    if (performance.now() < this.#quietUntil) return void metrics.shadowLogLost.inc({ reason: 'failed' });
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    if (this.#waitingBytes + line.length > WAITING_MAX) return void metrics.shadowLogLost.inc({ reason: 'slow' });
    this.#waiting.push(line);
    this.#waitingBytes += line.length;
    this.#writing ??= this.#write();
  }

  /** Resolves when what was added is written, or given up. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const lines = this.#takeForOneFile();
      const bytes = Buffer.concat(lines);
      try {
        if (this.#fileBytes > 0 && this.#fileBytes + bytes.length > this.options.fileBytes) await this.#end();
        if (this.#file === undefined) await this.#begin();
        await this.#file!.write(bytes);
        this.#fileBytes += bytes.length;
        this.options.metrics.shadowLogBytes.inc(bytes.length);
        if (this.#fileBytes >= this.options.fileBytes) await this.#end();
      } catch (error) {
        this.options.metrics.shadowLogLost.inc({ reason: 'failed' }, lines.length);
        this.#quietUntil = performance.now() + RETRY_MS;
        this.options.onProblem(asBelfryError(error, 'BELFRY_FILE_UNREADABLE'));
        await this.#end().catch(() => undefined); // the write has been told of already
      }
      this.#waitingBytes -= bytes.length;
    }
    this.#writing = undefined;
  }

  /** At least one line, then as many as the file has room for. */
  #takeForOneFile(): Buffer[] {
    const room = this.options.fileBytes - this.#fileBytes;
    let [count, bytes] = [0, 0];
    while (count < this.#waiting.length && (count === 0 || bytes + this.#waiting[count]!.length <= room))
      bytes += this.#waiting[count++]!.length;
    return this.#waiting.splice(0, count);
  }

  async #begin(): Promise<void> {
    const { folder } = this.options;
    await mkdir(folder, { recursive: true });
    await this.#prune();
    // By name is by time; the process and a number keep names apart.
    const time = new Date().toISOString().replace(/[-:.]/g, '');
    this.#file = await open(
      join(folder, `shadow-${time}-${process.pid}-${String(this.#files++).padStart(6, '0')}.jsonl`),
      'ax',
      0o640,
    );
    this.#fileBytes = 0;
  }

  async #end(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#fileBytes = 0;
    await file?.close();
  }

  /** Leaves room for one more file. */
  async #prune(): Promise<void> {
    const { folder, fileBytes, totalBytes } = this.options;
    const names = (await readdir(folder)).filter((name) => NAME.test(name)).sort();
    // Another process may have removed one meanwhile.
    const sizes = await Promise.all(
      names.map(async (name) => (await stat(join(folder, name)).catch(() => undefined))?.size),
    );
    let total = sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
    for (const [at, name] of names.entries()) {
      if (total + fileBytes <= totalBytes) return;
      await rm(join(folder, name), { force: true });
      total -= sizes[at] ?? 0;
    }
  }
}
