/** Lists of ids on the command line: a file (.txt with one id a line, .json with a list), or the ids themselves. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { IdMap, type IdKind } from '../ann/ids.js';
import { BelfryError, invalid, show } from '../errors.js';
import type { Id } from '../types.js';

/** `kind`: of the ids that they are compared with; of text, digits are integers where those are. */
export async function readIds(option: string, text: string, kind: IdKind): Promise<readonly Id[]> {
  if (text.endsWith('.json')) return fromJson(option, text);
  if (text.endsWith('.txt') || existsSync(text)) return fromLines(option, text, kind);
  return text.split(',').map((one, place) => fromText(`${option}.${place}`, one.trim(), kind));
}

async function fromLines(option: string, path: string, kind: IdKind): Promise<readonly Id[]> {
  const lines = (await IdMap.fromText(path)).all();
  return lines.map((line, place) => fromText(`${option}: ${path}: line ${place + 1}`, line as string, kind));
}

function fromText(field: string, text: string, kind: IdKind): Id {
  if (text === '') throw invalid(field, 'an id', text);
  if (kind === 'string') return text;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw invalid(
      field,
      `an integer id from 0 to ${Number.MAX_SAFE_INTEGER} (ids of this generation are integers)`,
      text,
    );
  return value;
}

async function fromJson(option: string, path: string): Promise<readonly Id[]> {
  let ids: unknown;
  try {
    ids = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new BelfryError('BELFRY_INVALID_ARGUMENT', `${option}: ${path} is not JSON (${error.message})`, {
      field: option,
      cause: error,
    });
  }
  if (!Array.isArray(ids)) throw invalid(option, `a list of ids in ${path}`, ids);
  const bad = ids.findIndex((id) => typeof id !== 'string' && !(Number.isSafeInteger(id) && id >= 0));
  if (bad >= 0) throw invalid(option, `strings or integers in ${path}`, `${show(ids[bad])} in place ${bad}`);
  return ids as Id[];
}
