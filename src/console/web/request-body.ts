/** From what is on the page to the body of POST /retrieve, and to a curl line that does the same. */
import type { ColumnKind, Condition, Info, RetrieveBody, Scalar } from './contract.js';
import type { FilterRow, ViewState } from './view-state.js';

/** A body, or what is still missing in the words of the page. */
export type Composed = { readonly body: RetrieveBody } | { readonly missing: string };

export interface Operator {
  readonly op: string;
  readonly label: string;
  /** False: the operator needs no value. */
  readonly takesValue: boolean;
}

const EXISTS: Operator[] = [
  { op: 'exists', label: 'exists', takesValue: false },
  { op: 'absent', label: 'is empty', takesValue: false },
];
const TEXT: Operator[] = [
  { op: 'eq', label: 'is', takesValue: true },
  { op: 'in', label: 'in', takesValue: true },
  { op: 'not', label: 'is not', takesValue: true },
];
const LIST: Operator[] = [
  { op: 'eq', label: 'contains', takesValue: true },
  { op: 'in', label: 'any of', takesValue: true },
  { op: 'all', label: 'all of', takesValue: true },
  { op: 'not', label: 'lacks', takesValue: true },
];
const NUMBER: Operator[] = [
  { op: 'lte', label: '\u2264', takesValue: true },
  { op: 'gte', label: '\u2265', takesValue: true },
  { op: 'lt', label: '<', takesValue: true },
  { op: 'gt', label: '>', takesValue: true },
  { op: 'eq', label: '=', takesValue: true },
];
const OPERATORS: Readonly<Record<ColumnKind, readonly Operator[]>> = {
  string: [...TEXT, ...EXISTS],
  number: [...NUMBER, ...EXISTS],
  boolean: [{ op: 'eq', label: 'is', takesValue: true }, ...EXISTS],
  string_list: [...LIST, ...EXISTS],
  number_list: [...LIST, ...EXISTS],
};

export const operatorsOf = (kind: ColumnKind): readonly Operator[] => OPERATORS[kind] ?? OPERATORS.string;

/** `id` can be filtered like a column. */
export function filterFields(info: Info): { name: string; kind: ColumnKind }[] {
  const idKind: ColumnKind = typeof info.sample_users[0] === 'number' ? 'number' : 'string';
  return [...info.item_columns, { name: 'id', kind: idKind }];
}

export function compose(state: ViewState, info: Info): Composed {
  const source = sourceOf(state);
  if ('missing' in source) return source;
  const filter = filterOf(state.filters, info);
  if ('missing' in filter) return filter;
  const { must, mustNot } = filter;
  return {
    body: {
      ...source,
      k: state.k,
      ...(state.rerank === '' ? {} : { rerank: rerankValue(state.rerank, info), candidates: state.candidates }),
      ...(state.excludeSeen ? { exclude_seen: true } : {}),
      ...(state.exact ? { exact: true } : {}),
      ...(must.length + mustNot.length === 0
        ? {}
        : {
            filter: { ...(must.length > 0 ? { must } : {}), ...(mustNot.length > 0 ? { must_not: mustNot } : {}) },
          }),
      ...(state.columns.length === 0 ? {} : { with_metadata: [...state.columns] }),
      timeout_ms: state.timeoutMs,
      explain: true,
    },
  };
}

export function curlLine(body: RetrieveBody, origin: string): string {
  const quoted = JSON.stringify(body).replaceAll("'", `'\\''`);
  return `curl -s ${origin}/retrieve -H 'content-type: application/json' -d '${quoted}'`;
}

type Source = Pick<RetrieveBody, 'user_id' | 'features' | 'embedding' | 'item_ids'>;

function sourceOf(state: ViewState): Source | { missing: string } {
  switch (state.tab) {
    case 'user':
      return state.user === undefined ? { missing: 'Pick a user, or type an id.' } : { user_id: state.user };
    case 'features':
      return Object.keys(state.features).length === 0
        ? { missing: 'Add what the new user has: one item is enough.' }
        : { features: { ...state.features } };
    case 'items':
      return state.items.length === 0
        ? { missing: 'Add one or more items: their mean is the query.' }
        : { item_ids: [...state.items] };
    case 'embedding':
      return embeddingOf(state.embedding);
  }
}

function embeddingOf(text: string): Source | { missing: string } {
  if (text.trim() === '') return { missing: 'Paste a query vector as a JSON list of numbers.' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { missing: `The embedding is not JSON: ${error instanceof Error ? error.message : String(error)}` };
  }
  if (!Array.isArray(value) || !value.every((one) => typeof one === 'number')) {
    return { missing: 'The embedding has to be a list of numbers, such as [0.12, -0.4].' };
  }
  return { embedding: value };
}

/** `true` where it means the same: the first reranker of the registry. */
function rerankValue(name: string, info: Info): boolean | string {
  return name === info.rerankers[0] ? true : name;
}

function filterOf(
  rows: readonly FilterRow[],
  info: Info,
): { must: Condition[]; mustNot: Condition[] } | { missing: string } {
  const must: Condition[] = [];
  const mustNot: Condition[] = [];
  for (const { field, op, text } of rows) {
    if (op === 'exists' || op === 'absent') {
      must.push({ field, exists: op === 'exists' });
      continue;
    }
    if (text.trim() === '') continue; // a row that is still being filled in
    const kind = filterFields(info).find(({ name }) => name === field)?.kind ?? 'string';
    const values = (op === 'in' || op === 'all' ? text.split(',') : [text])
      .map((one) => scalarOf(one.trim(), kind))
      .filter((one) => one !== '');
    const wrong = values.find((one) => Number.isNaN(one));
    if (wrong !== undefined) return { missing: `The filter on ${field} needs a number, not \u201c${text}\u201d.` };
    const [first] = values;
    if (first === undefined) continue;
    if (op === 'not') mustNot.push({ field, eq: first });
    else if (op === 'in' || op === 'all') must.push({ field, [op]: values });
    else must.push({ field, [op]: first });
  }
  return { must, mustNot };
}

function scalarOf(text: string, kind: ColumnKind): Scalar {
  if (text === '') return '';
  if (kind === 'number' || kind === 'number_list') return Number(text);
  if (kind === 'boolean') return text === 'true';
  return text;
}
