/** Files of a models folder: found, kept inside it, parsed and held against a schema. */
import { lstatSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { BelfryError, type ErrorCode } from '../errors.js';
import { explain, type SchemaError } from './explain.js';

/**
 * The absolute path of a file that the registry names. Absolute paths, `..` and links that leave the folder are
 * refused: a registry must not be able to reach other files of the machine.
 */
export function insideFolder(
  folder: string,
  path: string,
  field: string,
  code: ErrorCode = 'BELFRY_REGISTRY_INVALID',
): string {
  const full = join(folder, path);
  const outside = (target: string) => {
    const way = relative(realpathSync(folder), target);
    return way.startsWith(`..${sep}`) || way === '..' || way.startsWith(sep);
  };
  if (path.startsWith('/') || path.includes('\0') || relative(folder, full).startsWith('..')) {
    throw new BelfryError(code, `${field}: ${path} leaves the models folder; use a path inside it`, { field });
  }
  try {
    lstatSync(full);
  } catch (error) {
    throw new BelfryError(code, `${field}: ${path} does not exist in ${folder}`, { field, cause: error });
  }
  if (outside(realpathSync(full))) {
    throw new BelfryError(code, `${field}: ${path} is a link that leaves the models folder`, { field });
  }
  return full;
}

export function parseFile(path: string, parser: (text: string) => unknown, code: ErrorCode): unknown {
  try {
    const value = parser(readFileSync(path, 'utf8'));
    JSON.stringify(value); // YAML may refer to itself, which a manifest cannot hold and a walk never ends on
    return value;
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw new BelfryError(code, `${path}: ${reason}`, { cause: error });
  }
}

export function checkSchema(schema: TSchema, value: unknown, file: string, code: ErrorCode): void {
  if (Value.Check(schema, value)) return;
  const { field, message } = explain([...Value.Errors(schema, value)] as SchemaError[], value);
  throw new BelfryError(code, `${file}: ${message}`, { field });
}

export function first(folder: string, candidates: readonly string[]): string | undefined {
  return candidates.find((one) => isFile(join(folder, one)));
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

export function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

export function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}
