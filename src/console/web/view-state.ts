/** What the page shows, and its form in the URL hash: everything that is needed to share or reload a view. */
import type { FeatureValue, Id, Info } from './contract.js';
import { defaultColumns } from './columns.js';

export type Tab = 'user' | 'features' | 'items' | 'embedding';

export interface FilterRow {
  readonly field: string;
  readonly op: string;
  readonly text: string;
}

export interface ViewState {
  readonly tab: Tab;
  readonly user: Id | undefined;
  readonly features: Readonly<Record<string, FeatureValue>>;
  readonly items: readonly Id[];
  readonly embedding: string;
  readonly k: number;
  readonly candidates: number;
  /** Name of a reranker, or empty for none. */
  readonly rerank: string;
  readonly excludeSeen: boolean;
  readonly exact: boolean;
  readonly timeoutMs: number;
  readonly filters: readonly FilterRow[];
  readonly columns: readonly string[];
  /** The item whose drawer is open. */
  readonly open: Id | undefined;
}

export function defaults(info: Info): ViewState {
  return {
    tab: info.sample_users.length > 0 ? 'user' : 'items',
    user: info.sample_users[0],
    features: {},
    items: [],
    embedding: '',
    k: 10,
    candidates: 500,
    rerank: info.rerankers[0] ?? '',
    excludeSeen: true,
    exact: false,
    // A person who looks is not a service with a budget: the longest deadline shows what the models say.
    timeoutMs: 1000,
    filters: [],
    columns: defaultColumns(info),
    open: undefined,
  };
}

export function toHash(state: ViewState, info: Info): string {
  const base = defaults(info);
  const hash = new URLSearchParams();
  if (state.tab === 'user') hash.set('user', state.user === undefined ? '' : writeId(state.user));
  if (state.tab === 'features') hash.set('features', JSON.stringify(state.features));
  if (state.tab === 'items') hash.set('items', JSON.stringify(state.items));
  if (state.tab === 'embedding') hash.set('embedding', state.embedding);
  if (state.k !== base.k) hash.set('k', String(state.k));
  if (state.candidates !== base.candidates) hash.set('candidates', String(state.candidates));
  if (state.rerank !== base.rerank) hash.set('rerank', state.rerank || 'off');
  if (state.excludeSeen !== base.excludeSeen) hash.set('exclude_seen', String(state.excludeSeen));
  if (state.exact !== base.exact) hash.set('exact', String(state.exact));
  if (state.timeoutMs !== base.timeoutMs) hash.set('timeout_ms', String(state.timeoutMs));
  for (const { field, op, text } of state.filters) hash.append('where', JSON.stringify([field, op, text]));
  if (state.columns.join('\n') !== base.columns.join('\n')) hash.set('show', JSON.stringify(state.columns));
  if (state.open !== undefined) hash.set('open', writeId(state.open));
  return `#${hash}`;
}

/** A hash may be typed or cut off: whatever cannot be read falls back to its default. */
export function fromHash(text: string, info: Info): ViewState {
  const hash = new URLSearchParams(text.replace(/^#/, ''));
  const base = defaults(info);
  const numberOf = (key: string, fallback: number) => {
    const value = Number(hash.get(key) ?? fallback);
    return Number.isFinite(value) ? value : fallback;
  };
  const rerank = hash.get('rerank');
  const user = hash.get('user');
  const open = hash.get('open');
  return {
    ...base,
    tab: (['user', 'features', 'items', 'embedding'] as const).find((tab) => hash.has(tab)) ?? base.tab,
    user: user === null ? base.user : user === '' ? undefined : readId(user),
    features: readFeatures(hash.get('features')),
    items: readIds(hash.get('items')),
    embedding: hash.get('embedding') ?? '',
    k: numberOf('k', base.k),
    candidates: numberOf('candidates', base.candidates),
    rerank: rerank === null ? base.rerank : rerank === 'off' ? '' : rerank,
    excludeSeen: hash.has('exclude_seen') ? hash.get('exclude_seen') === 'true' : base.excludeSeen,
    exact: hash.get('exact') === 'true',
    timeoutMs: numberOf('timeout_ms', base.timeoutMs),
    filters: hash.getAll('where').flatMap(readFilter),
    columns: hash.has('show') ? readIds(hash.get('show')).map(String) : base.columns,
    open: open === null ? undefined : readId(open),
  };
}

/** The string "42" and the number 42 are different ids; quotes keep them apart where it matters. */
function writeId(id: Id): string {
  if (typeof id === 'number') return String(id);
  return /^(\d+|".*")$/.test(id) ? JSON.stringify(id) : id;
}

function readId(text: string): Id {
  if (/^\d+$/.test(text)) return Number(text);
  const quoted = readJson(text);
  return typeof quoted === 'string' ? quoted : text;
}

function readIds(text: string | null): Id[] {
  const list = readJson(text);
  return Array.isArray(list) ? list.filter((one) => typeof one === 'string' || typeof one === 'number') : [];
}

function readFeatures(text: string | null): Record<string, FeatureValue> {
  const value = readJson(text);
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, FeatureValue>)
    : {};
}

function readFilter(text: string): FilterRow[] {
  const row = readJson(text);
  if (!Array.isArray(row) || row.length !== 3) return [];
  const [field, op, value] = row.map(String) as [string, string, string];
  return [{ field, op, text: value }];
}

function readJson(text: string | null): unknown {
  try {
    return JSON.parse(text ?? 'null');
  } catch {
    return undefined; // the caller falls back to its default
  }
}
