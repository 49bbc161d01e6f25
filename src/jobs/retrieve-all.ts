/**
 * The all-users job: the top k items of every user, from the index, filters and models that serve online, into one
 * Parquet file or a pair of `.npy`.
 *
 * Users are taken in chunks. While the core searches one batch, the answers of the one before go to a slot of shared
 * memory; a full slot goes to the output thread, which encodes, writes and syncs it. Two slots bound the memory, however
 * many users there are, and the JS thread copies at most some hundred thousand values between two turns.
 */
import { rm, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { NativeHits, RowLists } from '../ann/addon.js';
import { BelfryError, invalid } from '../errors.js';
import type { FilterGroup } from '../features/filter.js';
import type { Generation } from '../generation/generation.js';
import type { Id } from '../types.js';
import { type ItemViews, PlainViews } from '../upserts/item-upserts.js';
import type { ItemView } from '../upserts/item-view.js';
import { VERSION } from '../version.js';
import { type Admission, admit } from './admission.js';
import { chunkUsers, NO_USER, type Slot } from './chunk.js';
import { estimate, type FilledJob, fillJob, type JobPlan, type JobRequest, requireDisk } from './job-plan.js';
import { withOutputLock } from './output-lock.js';
import { type OutputState, OutputThread, SLOTS } from './output-thread.js';
import type { OutputTask } from './output-worker.js';
import { chooseSearch, type SearchChoice } from './search-choice.js';
import { UserExclusions } from './user-exclusions.js';
import { openUsers, type UserChoice, type UserSource } from './users.js';

export interface RetrieveAllOptions extends JobRequest {
  /** `.parquet`, or `.npy` (then the scores go to `.scores.npy` beside it). What stands there is replaced at the end. */
  readonly out: string;
  /** Items a user, 1 to 10,000; 100 by default. */
  readonly k?: number | undefined;
  /** Of a Parquet file: one row for each hit (`long`, the default), or one for each user (`lists`). */
  readonly layout?: 'long' | 'lists' | undefined;
  /** Everybody in user_embeddings.npy by default; else ids, or a `.npy` of query vectors, whose ids are its row numbers. */
  readonly users?: UserChoice | undefined;
  /** The true top k, proven. */
  readonly exact?: boolean | undefined;
  /** Share of the true top k that is enough; above 0, up to 1. */
  readonly recall?: number | undefined;
  /** As in POST /retrieve. */
  readonly filter?: FilterGroup | undefined;
  /** Items that nobody gets. */
  readonly exclude?: readonly Id[] | undefined;
  /** Leave out what each user has, as `exclude_seen` does online: column `seen` or `history` of the users table, set `seen`. */
  readonly excludeSeen?: boolean | undefined;
  /** Named exclusion sets of the generation, for everyone or by user. */
  readonly excludeSets?: readonly string[] | undefined;
  /** Users of one search; as many as can be copied within a millisecond by default, and at most. */
  readonly batch?: number | undefined;
  /** Begin anew where an earlier run of the job has left a part. */
  readonly restart?: boolean | undefined;
  /** Stops after the search that is running; what is done is kept. */
  readonly signal?: AbortSignal | undefined;
  readonly onPlan?: ((plan: JobPlan) => void) | undefined;
  readonly onProgress?: ((progress: JobProgress) => void) | undefined;
}

export interface JobProgress {
  /** Users done, those of an earlier run included. */
  readonly done: number;
  readonly total: number;
  /** Of this run. */
  readonly usersPerSecond: number;
}

export interface RetrieveAllSummary {
  readonly generation: string;
  readonly files: readonly string[];
  readonly bytes: number;
  readonly layout: FilledJob['layout'];
  readonly k: number;
  readonly users: number;
  /** Of these, users that an earlier run had done. */
  readonly resumedUsers: number;
  /** Users left out: rows that the build skipped, and ids that the generation does not know. */
  readonly skipped: number;
  readonly unknown: number;
  /** The first five. */
  readonly unknownExamples: readonly Id[];
  readonly hits: number;
  /** Items that the filter and the exclusions leave. */
  readonly admitted: number;
  readonly unknownExcluded: number;
  readonly path: string;
  readonly kernel: string;
  readonly seconds: number;
  /** Of this run; 0 when an earlier one had done everything. */
  readonly usersPerSecond: number;
}

/**
 * Errors: BELFRY_INVALID_ARGUMENT, BELFRY_UNKNOWN_FIELD, BELFRY_UNKNOWN_EXCLUSION_SET, BELFRY_NO_USERS, BELFRY_DUPLICATE_ID, BELFRY_DIMS_MISMATCH,
 * BELFRY_INVALID_QUERY_VECTOR, BELFRY_FILE_UNREADABLE, BELFRY_LOCKED, BELFRY_RESUME_MISMATCH, BELFRY_DISK_SPACE,
 * BELFRY_STOPPED (or what the signal carries), BELFRY_NPY_* of a file of query vectors.
 */
export function retrieveAll(
  generation: Generation,
  options: RetrieveAllOptions,
  /** Where changes of items come from, besides the generation; the job works on those of its beginning. */
  views: ItemViews = new PlainViews(),
): Promise<RetrieveAllSummary> {
  return views.use(generation, (view) => retrieveAllOf(view, options));
}

async function retrieveAllOf(view: ItemView, options: RetrieveAllOptions): Promise<RetrieveAllSummary> {
  const { generation } = view;
  const job = fillJob(options, generation.index.info.dims);
  if (job.layout === 'npy' && view.deltaRows > 0 && generation.itemIds.kind === 'string')
    throw invalid(
      'out',
      'a .parquet file: a .npy holds row numbers for string ids, and upserted items have none',
      options.out,
    );
  return withOutputLock(job.out, job.folder, async () => {
    const exclusions = UserExclusions.of(options, view);
    const admission = await admit(view, options);
    const users = await openUsers(options.users, generation, job.folder, options.signal);
    try {
      const share = Math.min(1, admission.admitted / Math.max(1, generation.itemIds.size));
      const choice = chooseSearch(generation, { ...job, share });
      return await new Job(view, options, job, users, admission, exclusions, choice).run();
    } finally {
      await users.close();
    }
  });
}

class Job {
  readonly #started = performance.now();
  readonly #chunkUsers: number;
  /** Search under way, ahead of the one that is placed. */
  #next: Promise<Answer> | undefined;
  #thread!: OutputThread;
  private readonly generation: Generation;

  constructor(
    private readonly view: ItemView,
    private readonly options: RetrieveAllOptions,
    private readonly job: FilledJob,
    private readonly users: UserSource,
    private readonly admission: Admission,
    private readonly exclusions: UserExclusions | undefined,
    private readonly choice: SearchChoice,
  ) {
    this.#chunkUsers = chunkUsers(job.k);
    this.generation = view.generation;
  }

  async run(): Promise<RetrieveAllSummary> {
    const { job, users } = this;
    this.#thread = await OutputThread.open(this.#task());
    const done = () => Math.min(users.count, this.#thread.latest.chunks * this.#chunkUsers);
    let isPublished = false;
    try {
      const resumedUsers = done();
      await this.#plan(resumedUsers);
      await this.#answerFrom(resumedUsers);
      this.options.signal?.throwIfAborted();
      const { hits, bytes } = await this.#thread.publish();
      isPublished = true;
      return this.#summary(hits, bytes, resumedUsers);
    } catch (error) {
      throw this.#explainStop(error, done());
    } finally {
      await this.#thread.close();
      // Nothing to go on from: leave nothing behind.
      if (!isPublished && this.#thread.latest.chunks === 0) {
        for (const name of ['journal', ...job.finals.map((path) => basename(path))])
          await rm(join(job.folder, name), { force: true });
      }
    }
  }

  /** Searches and writes all users from `first` on; resolves when the last chunk is safe. */
  async #answerFrom(first: number): Promise<void> {
    const { users } = this;
    const thread = this.#thread;
    const writing: Promise<OutputState>[] = [];
    try {
      this.#next = this.#start(first);
      for (let from = first, chunk = 0; from < users.count; from += this.#chunkUsers, chunk++) {
        const slot = chunk % SLOTS;
        await writing[slot]; // the chunk that was in it before
        const to = Math.min(users.count, from + this.#chunkUsers);
        await this.#fill(thread.slots[slot]!, from, to, first);
        writing[slot] = thread.write(slot, to - from);
        writing[slot].catch(() => undefined); // awaited at the next use of the slot, or at the end
      }
      await Promise.all(writing);
    } finally {
      // Whatever stopped us, what is under way uses the vectors and the slots, and a chunk that is whole is kept.
      await Promise.allSettled([...writing, this.#next]);
    }
  }

  async #fill(slot: Slot, from: number, to: number, first: number): Promise<void> {
    const { users, job, options } = this;
    for (let start = from; start < to;) {
      options.signal?.throwIfAborted();
      const end = this.#batchEnd(start);
      const current = this.#next!;
      this.#next = this.#start(end);
      const answer = await current;
      place(slot, answer, start - from, end - start, job.k);
      if (job.layout !== 'npy')
        this.#thread.addIds(Array.from({ length: end - start }, (_, i) => users.idOf(start + i)));
      start = end;
      const seconds = (performance.now() - this.#started) / 1000;
      options.onProgress?.({ done: end, total: users.count, usersPerSecond: (end - first) / seconds });
    }
  }

  /** Batches never cross chunks. */
  #batchEnd(start: number): number {
    const chunkEnd = (Math.floor(start / this.#chunkUsers) + 1) * this.#chunkUsers;
    return Math.min(this.users.count, chunkEnd, start + this.job.batch);
  }

  #start(from: number): Promise<Answer> | undefined {
    if (from >= this.users.count) return undefined;
    const answer = this.#search(from, this.#batchEnd(from));
    answer.catch(() => undefined); // awaited later
    return answer;
  }

  async #search(from: number, to: number): Promise<Answer> {
    const { users, exclusions } = this;
    const { places, vectors } = await users.read(from, to);
    if (places.length === 0) return { places, parts: [] };
    if (exclusions === undefined) return { places, parts: [await this.#native(vectors)] };
    const ids = Array.from(places, (place) => users.idOf(from + place));
    const parts: NativeHits[] = [];
    const { dims } = this.generation.index.info;
    for await (const { first, lists } of exclusions.listsFor(ids)) {
      const count = lists.offsets.length - 1;
      parts.push(await this.#native(vectors.subarray(first * dims, (first + count) * dims), lists));
    }
    return { places, parts };
  }

  #native(queries: Float32Array, excludeEach?: RowLists): Promise<NativeHits> {
    const { allowed, parts } = this.admission;
    const search = { queries, k: this.job.k, ...this.choice.effort };
    return this.view.searchMany(search, allowed, parts, excludeEach);
  }

  /** Says what it will take, before the first search. Error: BELFRY_DISK_SPACE. */
  async #plan(resumedUsers: number): Promise<void> {
    const { users, job, choice, options } = this;
    const { fileBytes, memoryBytes } = estimate(job, this.generation.manifest, users.count);
    const writeBytes = Math.ceil(fileBytes * (1 - resumedUsers / Math.max(1, users.count)));
    const { bavail, bsize } = await statfs(dirname(job.out));
    const freeBytes = bavail * bsize;
    options.onPlan?.({
      users: users.count,
      resumedUsers,
      k: job.k,
      writeBytes,
      freeBytes,
      memoryBytes,
      path: choice.path,
    });
    requireDisk(job.out, writeBytes, freeBytes);
  }

  #task(): Omit<OutputTask, 'slots'> {
    const { generation, job, users, admission, options } = this;
    const { manifest, folder, index } = generation;
    return {
      folder: job.folder,
      finals: job.finals,
      restart: options.restart === true,
      facts: {
        belfry: VERSION,
        generation: generation.id,
        users: users.fingerprint,
        k: job.k,
        format: job.layout,
        search: JSON.stringify(this.choice.effort),
        filter: options.filter === undefined ? null : JSON.stringify(options.filter),
        exclude_seen: options.excludeSeen === true,
        exclude_sets: [...(options.excludeSets ?? [])].sort().join(','),
        admitted_items: admission.admitted,
        admitted_sha256: admission.fingerprint,
        upserts: this.view.slots,
      },
      layout: job.layout,
      users: users.count,
      k: job.k,
      chunkUsers: Math.min(this.#chunkUsers, Math.max(1, users.count)),
      userKind: users.idKind,
      itemIds: manifest.items.idsFile === undefined ? undefined : join(folder, manifest.items.idsFile),
      itemRows: manifest.items.count,
      changedIds: this.view.changedIds(),
      createdBy: `belfry version ${VERSION}`,
      fileFacts: {
        'belfry.generation': generation.id,
        'belfry.metric': index.info.metric,
        'belfry.k': String(job.k),
        'belfry.path': this.choice.path,
      },
    };
  }

  #summary(hits: number, bytes: number, resumedUsers: number): RetrieveAllSummary {
    const { generation, job, users, admission, choice } = this;
    const seconds = (performance.now() - this.#started) / 1000;
    return {
      generation: generation.id,
      files: [...job.finals].reverse(),
      bytes,
      layout: job.layout,
      k: job.k,
      users: users.count,
      resumedUsers,
      skipped: users.skipped,
      unknown: users.unknown,
      unknownExamples: users.unknownExamples,
      hits,
      admitted: admission.admitted,
      unknownExcluded: admission.unknownExcluded,
      path: choice.path,
      kernel: generation.index.info.kernel,
      seconds,
      usersPerSecond: (users.count - resumedUsers) / seconds,
    };
  }

  #explainStop(error: unknown, kept: number): unknown {
    if (!(error instanceof BelfryError) || error.code !== 'BELFRY_STOPPED') return error;
    const next =
      kept === 0
        ? 'nothing was kept'
        : `${kept} of ${this.users.count} users are kept in ${basename(this.job.folder)}: run the same command again to go on`;
    return new BelfryError('BELFRY_STOPPED', `${error.message}; ${next}`, { cause: error });
  }
}

interface Answer {
  readonly places: Uint32Array;
  /** Of the users with a vector, in order; several where the exclusions of all are too many for one call. */
  readonly parts: readonly NativeHits[];
}

/** Copies the answers of a batch of `users` users into a slot, at user `at`. */
function place(slot: Slot, { places, parts }: Answer, at: number, users: number, k: number): void {
  const isWhole = places.length === users;
  if (!isWhole) slot.counts.fill(NO_USER, at, at + users);
  let first = 0;
  for (const { counts, rows, scores } of parts) {
    if (isWhole) {
      slot.counts.set(counts, at + first);
      slot.rows.set(rows, (at + first) * k);
      slot.scores.set(scores, (at + first) * k);
    } else {
      for (let i = 0; i < counts.length; i++) {
        const user = at + places[first + i]!;
        slot.counts[user] = counts[i]!;
        slot.rows.set(rows.subarray(i * k, (i + 1) * k), user * k);
        slot.scores.set(scores.subarray(i * k, (i + 1) * k), user * k);
      }
    }
    first += counts.length;
  }
}
