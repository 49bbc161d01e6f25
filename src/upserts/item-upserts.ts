/**
 * Upserts between rebuilds: changes of items go to the log and, in the order of the log, into a delta beside each
 * generation that is in memory. Every process on the data folder reads the log on, so that a change is seen by the next
 * request of the process that took it, and by the others soon.
 */
import { setImmediate } from 'node:timers/promises';
import { asBelfryError, BelfryError } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import type { GenerationStore } from '../generation/store.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Features, Id } from '../types.js';
import { checkItemId, checkItemVector, checkMetadata, metadataAmong } from './check-item.js';
import { ItemDelta } from './item-delta.js';
import { type FsyncPolicy, ItemLog } from './item-log.js';
import { spaceOf } from './item-space.js';
import { ItemTowers } from './item-towers.js';
import type { ItemView } from './item-view.js';
import type { ItemChange, ItemPut, LoggedChange } from './log-format.js';
import { LogReader, LogRewound, logFolder } from './log-reader.js';

/** Where the retrieval flow gets its view of the items from. */
export interface ItemViews {
  /** Runs `work` on the items of a generation that the caller leases, as they are now. */
  use<T>(generation: Generation, work: (view: ItemView) => Promise<T>): Promise<T>;
}

/** Views without a log: the items of the generation and no others. */
export class PlainViews implements ItemViews {
  private readonly deltas = new WeakMap<Generation, ItemDelta>();

  use<T>(generation: Generation, work: (view: ItemView) => Promise<T>): Promise<T> {
    const delta = this.deltas.get(generation) ?? new ItemDelta(generation);
    this.deltas.set(generation, delta);
    return delta.use(work);
  }
}

export interface UpsertOptions {
  readonly data: string;
  readonly store: GenerationStore;
  readonly metrics: Metrics;
  readonly fsync: FsyncPolicy;
  /** Bytes of the changes that no rebuild has folded in; at the bound more are refused. */
  readonly logBytes: number;
  readonly onNotice?: (message: string) => void;
  readonly pollMs?: number;
}

/** An item as a caller sends it: `embedding`, or `features` for the item tower. */
export interface ItemBody {
  readonly embedding?: readonly number[];
  readonly features?: Features;
  /** Columns of the item table; without it, those among `features`. */
  readonly metadata?: Features;
}

export interface PutResult {
  readonly id: Id;
  readonly generation: string;
  /** False when the item was there before. */
  readonly created: boolean;
}

/** How often the log is read for what other processes have written: well below the second that is promised. */
const POLL_MS = 100;
/** After a failure: a damaged log is read anew, which may take a while. */
const RETRY_MS = 5000;
/** Changes applied between two turns of the event loop. */
const APPLY_STEP = 512;

interface Following {
  delta: ItemDelta;
  /** The next change that the delta does not know. */
  next: number;
  /** Changes of another training whose vectors are being made again, by id: the last one counts. */
  readonly remaking: Map<Id, number>;
}

export class ItemUpserts implements ItemViews {
  private readonly followed = new Map<Generation, Following>();
  private readonly preparing = new Map<Generation, Promise<Following>>();
  private readonly towers = new ItemTowers();
  private timer: NodeJS.Timeout | undefined;
  private log: ItemLog | undefined;
  private logBytes = 0;
  private reading: Promise<void> | undefined;
  private retryAt = 0;
  /** Why changes are refused, and those after the damage are not seen. */
  problem: BelfryError | undefined;

  private constructor(private readonly options: UpsertOptions) {}

  /** A damaged log is no error here: see `problem`. */
  static async open(options: UpsertOptions): Promise<ItemUpserts> {
    const upserts = new ItemUpserts(options);
    try {
      await upserts.openLog();
      await upserts.log!.cleanUp();
    } catch (error) {
      upserts.fail(error);
    }
    // Not before: a log that takes long to open would be followed without being there.
    upserts.timer = setInterval(() => void upserts.follow(), options.pollMs ?? POLL_MS);
    upserts.timer.unref();
    return upserts;
  }

  async use<T>(generation: Generation, work: (view: ItemView) => Promise<T>): Promise<T> {
    const following = this.followed.get(generation) ?? (await this.prepare(generation));
    return following.delta.use(work);
  }

  /** Reads the changes since the generation's mark, so that its first request need not wait for that. */
  async prepare(generation: Generation): Promise<Following> {
    const known = this.followed.get(generation) ?? this.preparing.get(generation);
    if (known !== undefined) return known;
    const preparing = this.replay(generation).finally(() => this.preparing.delete(generation));
    this.preparing.set(generation, preparing);
    return preparing;
  }

  /** Errors: those of checkItemId, checkItemVector, checkMetadata, ItemTowers.embed and ItemLog.commit. */
  async put(idText: string, { embedding, features, metadata }: ItemBody): Promise<PutResult> {
    return this.options.store.use(async (generation) => {
      const id = checkItemId(idText, generation.itemIds.kind);
      if (embedding === undefined && features === undefined)
        throw new BelfryError('BELFRY_INVALID_ARGUMENT', 'body: expected embedding or features, received neither');
      const table = generation.itemTable;
      const kept = metadata === undefined ? metadataAmong(features ?? {}, table) : checkMetadata(metadata, table);
      const vector =
        embedding === undefined
          ? await this.towers.embed(generation, id, features!)
          : checkItemVector(embedding, generation);
      const change: ItemChange = {
        op: 'put',
        id,
        time: Date.now(),
        space: spaceOf(generation.manifest),
        embedding: vector,
        ...(embedding === undefined ? { features: features! } : {}),
        metadata: kept,
      };
      const wasThere = await this.commit(generation, change, () => change);
      return { id, generation: generation.id, created: !wasThere };
    });
  }

  /** Errors: BELFRY_UNKNOWN_ITEM; those of checkItemId and ItemLog.commit. */
  async delete(idText: string): Promise<{ readonly id: Id; readonly generation: string }> {
    return this.options.store.use(async (generation) => {
      const id = checkItemId(idText, generation.itemIds.kind);
      const change: ItemChange = { op: 'delete', id, time: Date.now() };
      const wasThere = await this.commit(generation, change, (isThere) => (isThere ? change : undefined));
      if (!wasThere) {
        throw new BelfryError(
          'BELFRY_UNKNOWN_ITEM',
          `id: ${JSON.stringify(id)} is not among the items of generation ${generation.id}, nor of what was changed since`,
          { field: 'id' },
        );
      }
      return { id, generation: generation.id };
    });
  }

  /** Reads what other processes have written; at most one reading at a time. Never rejects. */
  follow(): Promise<void> {
    this.reading ??= this.readOn().finally(() => {
      this.reading = undefined;
    });
    return this.reading;
  }

  /** After the last request. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.reading;
    await this.log?.close();
    for (const { delta } of this.followed.values()) await delta.close();
    this.followed.clear();
    await this.towers.close();
  }

  /** Resolves to whether the item was there before. */
  private async commit(
    generation: Generation,
    change: ItemChange,
    decide: (isThere: boolean) => ItemChange | undefined,
  ): Promise<boolean> {
    const { id, op } = change;
    if (this.problem !== undefined) throw this.problem;
    if (this.logBytes >= this.options.logBytes) {
      throw new BelfryError(
        'BELFRY_UPSERT_LOG_FULL',
        `${this.logBytes} bytes of item changes wait for a rebuild, at most ${this.options.logBytes} may; rebuild, or raise upsert_log_bytes`,
        { limit: this.options.logBytes },
      );
    }
    await this.prepare(generation);
    const known: { wasThere?: boolean | undefined } = {};
    const logged = await this.log!.commit((staged) => {
      const before = staged.get(id);
      known.wasThere = before === undefined ? this.followed.get(generation)?.delta.has(id) : before.op === 'put';
      return known.wasThere === undefined ? undefined : decide(known.wasThere);
    });
    // The commit found the log rewound, as it is when a rebuild has folded it in: read it anew, then try again.
    if (known.wasThere === undefined) return this.commit(generation, change, decide);
    if (logged !== undefined) this.options.metrics.itemChanges.inc({ op });
    return known.wasThere;
  }

  private async openLog(): Promise<void> {
    const { data, fsync, onNotice, metrics } = this.options;
    this.log = await ItemLog.open(data, {
      fsync,
      ...(onNotice === undefined ? {} : { onNotice }),
      onChanges: (changes) => this.onChanges(changes),
      onRewind: () => this.forgetAll(),
      onAppend: (seconds) => metrics.itemLogAppendSeconds.observe(seconds),
    });
  }

  private async readOn(): Promise<void> {
    const { store, metrics } = this.options;
    try {
      if (this.problem !== undefined) {
        if (performance.now() < this.retryAt) return;
        await this.log?.close();
        await this.openLog(); // mended in the meantime, or not
        this.problem = undefined;
        this.forgetAll();
      }
      await this.log!.catchUp();
      const generation = store.peek();
      this.logBytes = await this.log!.bytesFrom(generation?.manifest.upserts?.mark ?? 1);
      metrics.itemLogBytes.set(this.logBytes);
      const following = generation === undefined ? undefined : this.followed.get(generation);
      metrics.itemDelta.set({ kind: 'items' }, following?.delta.liveItems ?? 0);
      metrics.itemDelta.set({ kind: 'tombstones' }, following?.delta.tombstones ?? 0);
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    const problem = asBelfryError(error, 'BELFRY_UPSERT_LOG_FAILED');
    if (problem.message !== this.problem?.message) this.options.onNotice?.(`upserts: ${problem.message}`);
    this.problem = problem;
    this.retryAt = performance.now() + RETRY_MS;
  }

  /** Within one turn of the event loop, so that no request sees half of a batch. */
  private onChanges(changes: readonly LoggedChange[]): void {
    for (const [generation, following] of this.followed) {
      for (const logged of changes) this.apply(generation, following, logged);
      if (following.delta.isSparse) {
        const { delta } = following;
        following.delta = delta.compacted();
        void delta.close();
      }
    }
  }

  private async replay(generation: Generation): Promise<Following> {
    const mark = generation.manifest.upserts?.mark ?? 1;
    for (;;) {
      const following: Following = { delta: new ItemDelta(generation), next: mark, remaking: new Map() };
      this.log?.raise(mark);
      const reader = new LogReader(logFolder(this.options.data), mark);
      try {
        do {
          for await (const { changes } of reader.read()) await this.applyAll(generation, following, changes);
        } while (this.problem === undefined && reader.nextSequence < this.log!.nextSequence);
      } catch (error) {
        if (error instanceof LogRewound) continue;
        this.fail(error); // what came before the damage is applied
      }
      this.followed.set(generation, following);
      generation.whenClosed(() => this.forget(generation));
      return following;
    }
  }

  private async applyAll(
    generation: Generation,
    following: Following,
    changes: readonly LoggedChange[],
  ): Promise<void> {
    for (const [at, logged] of changes.entries()) {
      this.apply(generation, following, logged);
      if (at % APPLY_STEP === APPLY_STEP - 1) await setImmediate();
    }
  }

  private apply(generation: Generation, following: Following, { sequence, change }: LoggedChange): void {
    if (sequence < following.next) return; // read from the file already
    following.next = sequence + 1;
    following.remaking.delete(change.id);
    if (change.op === 'delete') following.delta.apply(change.id, undefined);
    else if (change.space === spaceOf(generation.manifest) && change.embedding.length === generation.items.dims)
      following.delta.apply(change.id, change);
    else void this.remake(generation, following, sequence, change);
  }

  /** A vector of another training means nothing here: the item tower of this one makes it again, or it is left out. */
  private async remake(
    generation: Generation,
    following: Following,
    sequence: number,
    { id, features, metadata }: ItemPut,
  ): Promise<void> {
    following.remaking.set(id, sequence);
    try {
      if (features === undefined) throw new Error('it was sent as an embedding, which only a sender can make again');
      const embedding = await this.towers.embed(generation, id, features);
      if (following.remaking.get(id) !== sequence) return; // changed again meanwhile
      following.delta.apply(id, { id, embedding, metadata });
    } catch (error) {
      this.options.onNotice?.(
        `upserts: item ${JSON.stringify(id)} is of another training than generation ${generation.id} and is left out: ${(error as Error).message}`,
      );
    }
  }

  private forgetAll(): void {
    for (const generation of [...this.followed.keys()]) void this.forget(generation);
  }

  private async forget(generation: Generation): Promise<void> {
    const following = this.followed.get(generation);
    this.followed.delete(generation);
    await following?.delta.close();
  }
}
