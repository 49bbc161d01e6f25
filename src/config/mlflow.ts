/** Rows of registry.yaml that stand in an MLflow model registry, and what was brought from there (docs/registry.md). */
import { type Static, Type } from 'typebox';
import { BelfryError } from '../errors.js';
import { serviceAddress } from './addresses.js';

const strict = { additionalProperties: false } as const;
const Label = Type.String({ minLength: 1, maxLength: 256 });

/** One of alias, version, stage says which version; `file` which file of it, where it has several models. */
export const MlflowReferenceSchema = Type.Object(
  {
    name: Label,
    alias: Type.Optional(Label),
    version: Type.Optional(Type.Union([Type.String({ pattern: '^[0-9]{1,18}$' }), Type.Integer({ minimum: 1 })])),
    stage: Type.Optional(Label),
    file: Type.Optional(Label),
  },
  strict,
);
export type MlflowReference = Static<typeof MlflowReferenceSchema>;

/** What the manifest keeps of it. */
export const MlflowPinSchema = Type.Object(
  {
    name: Type.String(),
    version: Type.String({ description: 'that the alias or stage named when the generation was built' }),
    alias: Type.Optional(Type.String()),
    stage: Type.Optional(Type.String()),
  },
  { ...strict, description: 'the version of an MLflow model registry that the file is of' },
);
export type MlflowPin = Static<typeof MlflowPinSchema>;

/** A model of the registry as a file on this machine. */
export interface BroughtModel {
  readonly pin: MlflowPin;
  /** Of the model, in a generation: `registry/dlrm/3/dlrm.onnx`. */
  readonly path: string;
  readonly sha256: string;
}

/** By `referenceText`. Plain data: it crosses to the builder's process. */
export interface BroughtModels {
  /** Folder that `registry/…` is found in. */
  readonly folder: string;
  readonly models: Readonly<Record<string, BroughtModel>>;
}

/** `dlrm@production`, `dlrm/3`, `dlrm/Production`: for messages, and as a key. */
export function referenceText({ name, alias, version, stage, file }: MlflowReference): string {
  const which = alias === undefined ? `/${String(version ?? stage)}` : `@${alias}`;
  return `${name}${which}${file === undefined ? '' : `#${file}`}`;
}

export interface MlflowSettings {
  readonly mlflow_url?: string | undefined;
  readonly mlflow_token?: string | undefined;
  readonly mlflow_username?: string | undefined;
  readonly mlflow_password?: string | undefined;
  readonly mlflow_file_root?: string | undefined;
  readonly allow_link_local?: boolean | undefined;
}

/** Only what a client needs, with its address checked. Undefined without one. Error: BELFRY_CONFIG_INVALID. */
export function mlflowSettings(settings: MlflowSettings): (MlflowSettings & { mlflow_url: string }) | undefined {
  const { mlflow_url, mlflow_token, mlflow_username, mlflow_password, mlflow_file_root, allow_link_local } = settings;
  if (mlflow_url === undefined) return undefined;
  const url = serviceAddress(mlflow_url, 'mlflow_url', { allowLinkLocal: allow_link_local });
  if (url.username !== '' || url.password !== '') {
    const message = 'mlflow_url: has a user name or password; set mlflow_username and mlflow_password';
    throw new BelfryError('BELFRY_CONFIG_INVALID', message, { field: 'mlflow_url' });
  }
  return { mlflow_url: url.href, mlflow_token, mlflow_username, mlflow_password, mlflow_file_root, allow_link_local };
}
