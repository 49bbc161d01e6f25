/** From what a store answers to a feature of the declared type. What does not fit is refused, never bent. */
import { type FeatureSpec, isOfType } from '../../config/feature-stores.js';
import { show } from '../../errors.js';
import type { FeatureValue } from '../../types.js';
import { FEATURE_LIMITS } from '../feature-slot.js';

export class WrongType extends Error {}

/** `value` as JSON has it. Throws WrongType. */
export function typedValue(spec: FeatureSpec, value: unknown): FeatureValue {
  if (value === null) return null;
  if (!isOfType(value, spec.type)) throw new WrongType(`expected a ${spec.type}, received ${show(value)}`);
  return bounded(value as FeatureValue);
}

/** `text` as a field of a Redis hash has it: numbers and booleans in words, lists as JSON or with a separator. */
export function parsedValue(spec: FeatureSpec, text: string): FeatureValue {
  const wrong = () => new WrongType(`expected a ${spec.type}, received ${show(text)}`);
  switch (spec.type) {
    case 'string':
      return bounded(text);
    case 'number':
      if (text.trim() === '' || !Number.isFinite(Number(text))) throw wrong();
      return Number(text);
    case 'boolean':
      if (/^(1|true)$/i.test(text)) return true;
      if (/^(0|false)$/i.test(text)) return false;
      throw wrong();
    case 'string_list':
    case 'number_list': {
      if (spec.separator === undefined) return typedValue(spec, json(text, wrong));
      const words = text === '' ? [] : text.split(spec.separator);
      return typedValue(spec, spec.type === 'string_list' ? words : words.map(Number));
    }
  }
}

/** The bounds of features in a request hold for those of a store. */
function bounded(value: FeatureValue): FeatureValue {
  const { stringLength, listLength } = FEATURE_LIMITS;
  if (Array.isArray(value) && value.length > listLength.max)
    throw new WrongType(`expected at most ${listLength.max} entries, received ${value.length}`);
  const words = typeof value === 'string' ? [value] : Array.isArray(value) ? value : [];
  for (const word of words) {
    if (typeof word === 'string' && word.length > stringLength.max)
      throw new WrongType(`expected at most ${stringLength.max} characters, received ${word.length}`);
  }
  return value;
}

function json(text: string, wrong: () => WrongType): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw wrong();
  }
}
