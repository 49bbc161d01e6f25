/** Value → position, as the model was trained with it. */
import { readFile } from 'node:fs/promises';
import { BelfryError, show } from '../errors.js';
import type { Id } from '../types.js';
import type { VocabularyBinding } from './binding-schema.js';
import { Slices } from './slices.js';

export type Vocabulary = ReadonlyMap<string, number>;

/** Where the words come from: files of the models folder and the ids of the export. The caller resolves and guards paths. */
export interface VocabularySources {
  readonly file: (path: string) => Promise<readonly string[]>;
  readonly ids: (side: 'items' | 'users') => readonly Id[] | Promise<readonly Id[]>;
}

// Several inputs and models share one list: 25,000 words are indexed once.
const indexed = new WeakMap<readonly unknown[], Promise<Vocabulary>>();
/** Words between two looks at the clock. */
const STEP = 256;

/** `slices` is asked for when a list is indexed that was not before. */
export async function loadVocabulary(
  binding: VocabularyBinding,
  sources: VocabularySources,
  slices = () => new Slices(),
): Promise<Vocabulary> {
  if ('file' in binding) return indexOf(await sources.file(binding.file), binding.file, slices);
  if ('ids' in binding) return indexOf(await sources.ids(binding.ids), `${binding.ids} ids`, slices);
  return indexOf(binding.values, 'vocabulary values', slices);
}

function indexOf(
  values: readonly (string | number | boolean)[],
  name: string,
  slices: () => Slices,
): Promise<Vocabulary> {
  const known = indexed.get(values) ?? makeIndex(values, name, slices());
  indexed.set(values, known);
  return known;
}

/** In slices: others are answered while a generation loads. */
async function makeIndex(
  values: readonly (string | number | boolean)[],
  name: string,
  slices: Slices,
): Promise<Vocabulary> {
  const positions = new Map<string, number>();
  for (let position = 0; position < values.length; position++) {
    if (position % STEP === STEP - 1 && slices.isOver) await slices.next();
    const word = String(values[position]);
    const earlier = positions.get(word);
    if (earlier !== undefined) {
      throw new BelfryError(
        'BELFRY_BINDING_MISMATCH',
        `${name}: ${show(word)} stands at position ${earlier} and at ${position}; each word must be there once`,
        { field: name },
      );
    }
    positions.set(word, position);
  }
  return positions;
}

/** One value a line, UTF-8; a last line may end without a newline. An empty line is the empty word: it keeps its position. */
export async function readVocabularyFile(path: string, name: string): Promise<readonly string[]> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (error) {
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `vocabulary ${name}: ${(error as Error).message}`, {
      field: name,
      cause: error,
    });
  }
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
