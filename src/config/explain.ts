/** Turns schema errors (Ajv's and TypeBox's share one shape) into one sentence about the value that is wrong. */
import { show } from '../errors.js';

export interface SchemaError {
  keyword: string;
  instancePath: string;
  params: Record<string, unknown>;
  message?: string;
}

export interface Explanation {
  /** Dotted path of the value, empty for the whole. */
  field: string;
  message: string;
  limit?: number | string;
}

const LIMIT_WORDS: Record<string, string> = {
  minimum: 'at least',
  maximum: 'at most',
  exclusiveMinimum: 'more than',
  exclusiveMaximum: 'less than',
};

const SIZE_WORDS: Record<string, [word: string, unit: string]> = {
  minItems: ['at least', 'entries'],
  maxItems: ['at most', 'entries'],
  minLength: ['at least', 'characters'],
  maxLength: ['at most', 'characters'],
  minProperties: ['at least', 'keys'],
  maxProperties: ['at most', 'keys'],
};

/**
 * Explains the error that says most: an unknown key first (it is usually a typo of the key that is then missing), else
 * the deepest one.
 */
export function explain(errors: readonly SchemaError[], value: unknown): Explanation {
  const ranked = [...errors].sort((a, b) => rank(b) - rank(a));
  const error = ranked[0];
  if (error === undefined) return { field: '', message: 'does not follow its schema' };
  const field = dotted(error.instancePath);
  const received = at(value, error.instancePath);
  const { keyword, params } = error;
  if (keyword === 'additionalProperties' || keyword === 'unevaluatedProperties') {
    const names = ([] as unknown[]).concat(params.additionalProperty ?? params.additionalProperties ?? []).map(String);
    const key = names[0] ?? '';
    return { field: join(field, key), message: `${join(field, key)}: unknown key` };
  }
  if (keyword === 'required') {
    const names = ([] as unknown[]).concat(params.missingProperty ?? params.requiredProperties ?? []).map(String);
    const key = names[0] ?? '';
    return { field: join(field, key), message: `${join(field, key)}: is required` };
  }
  const name = field === '' ? 'value' : field;
  const bound = LIMIT_WORDS[keyword];
  if (bound !== undefined) {
    const limit = params.limit as number;
    return { field, message: `${name}: expected ${bound} ${limit}, received ${show(received)}`, limit };
  }
  const size = SIZE_WORDS[keyword];
  if (size !== undefined) {
    const limit = params.limit as number;
    const count =
      typeof received === 'object' && received !== null ? Object.keys(received).length : String(received).length;
    return { field, message: `${name}: expected ${size[0]} ${limit} ${size[1]}, received ${count}`, limit };
  }
  const choices = allowed(ranked, error.instancePath);
  if (choices.length > 0)
    return { field, message: `${name}: expected ${choices.join(' or ')}, received ${show(received)}` };
  return { field, message: `${name}: ${error.message ?? 'is not valid'}, received ${show(received)}` };
}

function rank(error: SchemaError): number {
  const depth = error.instancePath.split('/').length;
  // TypeBox adds a `boolean` row for each unknown key; the additionalProperties row says the same with the name.
  if (error.keyword === 'boolean') return -1;
  if (error.keyword === 'anyOf' || error.keyword === 'oneOf') return depth - 0.5;
  if (error.keyword === 'additionalProperties') return 100 + depth;
  // Of the branches of a union, the one whose type fits and whose bound does not is the one that was meant.
  if (error.keyword in LIMIT_WORDS || error.keyword in SIZE_WORDS) return depth + 0.5;
  return depth;
}

/** What a union of constants and types admits at one place, for the message. */
function allowed(errors: readonly SchemaError[], path: string): string[] {
  const choices = new Set<string>();
  for (const error of errors) {
    if (error.instancePath !== path) continue;
    if (error.keyword === 'const') choices.add(show(error.params.allowedValue));
    else if (error.keyword === 'enum')
      for (const one of error.params.allowedValues as unknown[]) choices.add(show(one));
    else if (error.keyword === 'type')
      choices.add(article(([] as unknown[]).concat(error.params.type ?? []).join(' or ')));
  }
  return [...choices];
}

function article(type: string): string {
  return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`;
}

function dotted(pointer: string): string {
  return pointer.split('/').filter(Boolean).map(unescapePointer).join('.');
}

function unescapePointer(part: string): string {
  return part.replaceAll('~1', '/').replaceAll('~0', '~');
}

function join(field: string, key: string): string {
  return field === '' ? key : `${field}.${key}`;
}

function at(value: unknown, pointer: string): unknown {
  let here: unknown = value;
  for (const part of pointer.split('/').filter(Boolean).map(unescapePointer)) {
    if (typeof here !== 'object' || here === null) return undefined;
    here = (here as Record<string, unknown>)[part];
  }
  return here;
}
