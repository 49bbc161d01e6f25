/** Settings of the process: defaults < file < environment < flags, checked once. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { Value } from 'typebox/value';
import { parse as parseYaml } from 'yaml';
import { BelfryError } from '../errors.js';
import { serviceAddress } from './addresses.js';
import { explain, type SchemaError } from './explain.js';
import { folderNameOf, isObjectAddress, parseObjectAddress, showAddress } from './object-address.js';
import { readFeatureStores } from './feature-stores.js';
import { mlflowSettings } from './mlflow.js';
import { readModelServers } from './model-servers.js';
import { DEFAULTS, environmentNames, type Settings, SettingsSchema } from './schema.js';
import { sameLength, withoutSecrets } from './secrets.js';

type SettingName = keyof typeof SettingsSchema.properties;
const NAMES = Object.keys(SettingsSchema.properties) as SettingName[];

export interface LoadOptions {
  /** Settings given on the command line; undefined ones are not set. */
  flags?: Readonly<Record<string, unknown>>;
  /** A YAML or JSON file; default `belfry.yaml` in the working directory, where it exists. */
  file?: string | undefined;
  environment?: Readonly<Record<string, string | undefined>>;
  workingDirectory?: string;
}

export function loadSettings(options: LoadOptions = {}): Settings {
  const directory = options.workingDirectory ?? process.cwd();
  const merged: Record<string, unknown> = {
    ...DEFAULTS,
    ...fromFile(options.file, directory),
    ...fromEnvironment(options.environment ?? process.env),
    ...defined(options.flags ?? {}),
  };
  merged.models = merged.pull_from ?? merged.models ?? defaultModelsFolder(directory);
  check(merged, 'settings');
  const settings = merged as Settings;
  if (settings.push_to !== undefined) parseObjectAddress(settings.push_to, 'push_to');
  readModelServers(settings, options.environment);
  readFeatureStores(settings, options.environment);
  mlflowSettings(settings);
  if (settings.s3_endpoint !== undefined)
    serviceAddress(settings.s3_endpoint, 's3_endpoint', { allowLinkLocal: settings.allow_link_local });
  const keys = settings.keys === undefined ? {} : { keys: resolve(directory, settings.keys) };
  return { ...settings, ...keys, models: whereModelsAre(settings, directory) };
}

/** The keys file, for a command that needs no models. Error: BELFRY_CONFIG_INVALID. */
export function keysFile(
  { keys, config }: { keys?: string | undefined; config?: string | undefined },
  workingDirectory = process.cwd(),
): string {
  const set = { ...fromFile(config, workingDirectory), ...fromEnvironment(process.env), ...defined({ keys }) }.keys;
  if (typeof set === 'string' && set !== '') return resolve(workingDirectory, set);
  throw new BelfryError(
    'BELFRY_CONFIG_INVALID',
    'keys: name the file of the keys with --keys FILE, or the setting keys',
    {
      field: 'keys',
    },
  );
}

function whereModelsAre({ models, pull_from }: Settings, directory: string): string {
  if (!isObjectAddress(models)) return resolve(directory, models);
  return showAddress(parseObjectAddress(models, pull_from === undefined ? 'models' : 'pull_from'));
}

/** Where the generations of a models folder live when nobody says so: beside the caller, never in the export. */
export function dataFolder(settings: Settings, workingDirectory = process.cwd()): string {
  return resolve(workingDirectory, settings.data ?? join('.belfry', nameOf(settings.models)));
}

function nameOf(models: string): string {
  return isObjectAddress(models) ? folderNameOf(parseObjectAddress(models, 'models')) : basename(models);
}

function defaultModelsFolder(directory: string): string {
  if (existsSync(join(directory, 'models', 'embeddings'))) return 'models';
  throw new BelfryError(
    'BELFRY_MODELS_FOLDER',
    `no models folder: ${join(directory, 'models')} does not exist; name one with --models DIR, or try the sample with --sample`,
    { field: 'models' },
  );
}

function fromFile(file: string | undefined, directory: string): Record<string, unknown> {
  const path = file === undefined ? join(directory, 'belfry.yaml') : resolve(directory, file);
  if (file === undefined && !existsSync(path)) return {};
  let parsed: unknown;
  try {
    parsed = parseYaml(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new BelfryError('BELFRY_CONFIG_INVALID', `${path}: ${(error as Error).message}`, {
      field: 'config',
      cause: error,
    });
  }
  if (parsed === null || parsed === undefined) return {};
  if (typeof parsed !== 'object' || Array.isArray(parsed)) {
    throw new BelfryError('BELFRY_CONFIG_INVALID', `${path}: expected a table of settings`, { field: 'config' });
  }
  check({ ...DEFAULTS, models: '.', ...parsed }, path);
  return parsed as Record<string, unknown>;
}

function fromEnvironment(environment: Readonly<Record<string, string | undefined>>): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const name of NAMES) {
    const variable = environmentNames(name).find((one) => (environment[one] ?? '') !== '');
    if (variable === undefined) continue;
    const text = environment[variable] as string;
    const value = valueOf(text, (SettingsSchema.properties[name] as { type?: string }).type);
    check({ ...DEFAULTS, models: '.', [name]: value }, `environment variable ${variable}`);
    found[name] = value;
  }
  return found;
}

/** What does not read as the type of its setting stays a text, which the schema then refuses. */
function valueOf(text: string, type: string | undefined): unknown {
  if (type === 'object') return jsonOf(text);
  if (type === 'boolean' && /^(true|false)$/.test(text)) return text === 'true';
  if (type === 'integer' && /^-?\d+$/.test(text)) return Number(text);
  if (type === 'array') return text.split(',').map((one) => one.trim());
  if (type === 'object' && text.startsWith('{')) return fromJson(text);
  if (type === 'number' && /^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  return text;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function defined(flags: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}

function check(settings: Record<string, unknown>, where: string): void {
  const required = ['models', ...Object.keys(DEFAULTS)];
  const schema = { ...SettingsSchema, required };
  if (Value.Check(schema, settings)) return;
  const { field, message, limit } = explain(
    [...Value.Errors(schema, settings)] as SchemaError[],
    withoutSecrets(settings, sameLength),
  );
  const known = message.endsWith('unknown key') ? `; known: ${NAMES.join(', ')}` : '';
  throw new BelfryError('BELFRY_CONFIG_INVALID', `${where}: ${message}${known}`, {
    field,
    ...(limit === undefined ? {} : { limit }),
  });
}
