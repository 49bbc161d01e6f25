/**
 * Reads what a Feast feature server answers to /get-online-features. Nothing in it is believed before it is checked. Two
 * forms are about: `results` with one entry per feature (feast serve), or with one per entity (older servers).
 */
import type { FeatureSpec } from '../../config/feature-stores.js';
import type { Id } from '../../types.js';
import type { OnInvalid, StoredFeature, StoredUser } from './feature-store.js';
import { typedValue } from './typed-value.js';

export interface FeastQuestion {
  readonly entity: string;
  readonly ids: readonly Id[];
  readonly features: Readonly<Record<string, FeatureSpec>>;
}

interface Result {
  readonly values: readonly unknown[];
  readonly statuses?: readonly unknown[];
  readonly event_timestamps?: readonly unknown[];
}

/** One user per id, in their order. Throws an Error that says what is wrong with the answer as a whole. */
export function readFeastAnswer(
  answer: unknown,
  question: FeastQuestion,
  onInvalid: OnInvalid = () => undefined,
): (StoredUser | undefined)[] {
  const { ids, features } = question;
  const names = namesOf(answer);
  const cellAt = cellsOf(answer, names, question);
  const columns = Object.entries(features).map(([name, spec]) => {
    const column = names.indexOf(spec.from!.replace(':', '__'));
    if (column < 0) throw new Error(`the answer lacks ${spec.from}; it has ${names.join(', ').slice(0, 200)}`);
    return { name, spec, column };
  });
  return ids.map((_, row) => {
    const user: Record<string, StoredFeature> = {};
    let isKnown = false;
    for (const { name, spec, column } of columns) {
      const cell = cellAt(row, column);
      if (cell.status === 'NOT_FOUND') continue;
      isKnown = true;
      try {
        const value = cell.status === 'NULL_VALUE' ? null : typedValue(spec, cell.value);
        user[name] = {
          value,
          ...(cell.writtenMs === undefined ? {} : { writtenMs: cell.writtenMs }),
          ...(cell.status === 'OUTSIDE_MAX_AGE' ? { isStale: true } : {}),
        };
      } catch (error) {
        onInvalid(name, (error as Error).message);
      }
    }
    return isKnown ? user : undefined;
  });
}

function namesOf(answer: unknown): string[] {
  const metadata = (answer as { metadata?: { feature_names?: unknown } } | null)?.metadata?.feature_names;
  // The Java server wraps the list.
  const names = (metadata as { val?: unknown } | undefined)?.val ?? metadata;
  if (!Array.isArray(names) || !names.every((name) => typeof name === 'string'))
    throw new Error('the answer has no metadata.feature_names');
  return names;
}

interface Cell {
  readonly value: unknown;
  readonly status: string;
  readonly writtenMs: number | undefined;
}

function cellsOf(
  answer: unknown,
  names: readonly string[],
  { entity, ids }: FeastQuestion,
): (row: number, column: number) => Cell {
  const results = (answer as { results?: unknown }).results;
  if (!Array.isArray(results)) throw new Error('the answer has no results');
  const fits = (outer: number, inner: number) =>
    results.length === outer && results.every((one) => isResult(one, inner));
  const list = results as Result[];
  const at = (result: Result, place: number): Cell => ({
    value: result.values[place],
    status: String(result.statuses?.[place] ?? (result.values[place] === null ? 'NULL_VALUE' : 'PRESENT')),
    writtenMs: timeOf(result.event_timestamps?.[place]),
  });
  const key = names.indexOf(entity);
  const isOf = (valueOf: (row: number) => unknown): boolean =>
    key < 0 || ids.every((id, row) => String(valueOf(row)) === String(id));
  if (fits(names.length, ids.length) && isOf((row) => list[key]!.values[row]))
    return (row, column) => at(list[column]!, row);
  if (fits(ids.length, names.length) && isOf((row) => list[row]!.values[key]))
    return (row, column) => at(list[row]!, column);
  throw new Error(`the results are not of the ${ids.length} ids and ${names.length} features that were asked for`);
}

function isResult(one: unknown, length: number): boolean {
  const { values, statuses, event_timestamps: times } = (one ?? {}) as Partial<Result>;
  return Array.isArray(values) && values.length === length && isListOf(statuses, length) && isListOf(times, length);
}

/** Servers may leave out statuses and times. */
function isListOf(list: unknown, length: number): boolean {
  return list === undefined || (Array.isArray(list) && (list.length === length || list.length === 0));
}

/** ISO 8601, or the {seconds} of a protobuf timestamp. 1970 is how Feast writes that it does not know. */
function timeOf(stamp: unknown): number | undefined {
  const seconds = (stamp as { seconds?: unknown } | null | undefined)?.seconds;
  const time = typeof stamp === 'string' ? Date.parse(stamp) : Number(seconds) * 1000;
  return Number.isFinite(time) && time > 0 ? time : undefined;
}
