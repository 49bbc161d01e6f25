/** The part of /admin that the page uses. The service's own schemas stand in src/http/routes/. */
import { getJson, getText, postJson } from './api.js';
import type { Id } from './contract.js';

export interface Problem {
  readonly code: string;
  readonly message: string;
}

export interface GenerationEntry {
  readonly id: string;
  readonly created?: string;
  readonly items?: number;
  readonly users?: number;
  readonly bytes?: number;
  readonly models?: readonly string[];
  readonly problem?: Problem;
}

export interface Generations {
  readonly current: string | null;
  readonly previous: string | null;
  readonly serving: string | null;
  readonly generations: readonly GenerationEntry[];
  readonly quarantined: readonly { readonly id: string; readonly reason?: string }[];
}

export interface Rebuild {
  readonly state: 'idle' | 'running' | 'elsewhere';
  readonly running?: { readonly stage: string };
  readonly problem?: Problem;
  /** Newest first. */
  readonly builds: readonly { readonly result: string; readonly gates?: readonly GateResult[] }[];
}

export interface GateResult {
  readonly name: string;
  readonly status: string;
  readonly detail: string;
  readonly measurements: readonly {
    readonly what: string;
    readonly value: number;
    readonly min?: number;
    readonly max?: number;
  }[];
}

interface BeforeNow {
  readonly before: number;
  readonly now: number;
}

interface IdChange extends BeforeNow {
  readonly added: number;
  readonly removed: number;
  readonly added_examples: readonly Id[];
  readonly removed_examples: readonly Id[];
}

export interface Diff {
  readonly generation: string;
  readonly items: IdChange;
  readonly users?: IdChange;
  readonly moved?: {
    readonly compared: number;
    readonly unchanged: number;
    readonly moved: number;
    readonly neighbours_kept: number;
  };
  readonly norms: { readonly items: BeforeNow; readonly users?: BeforeNow };
  readonly recall: readonly (BeforeNow & { readonly k: number })[];
  readonly bytes: BeforeNow;
  readonly models: readonly { readonly role: string; readonly before: string; readonly now: string }[];
  readonly feature_schema_changed: boolean;
}

export interface Report {
  readonly generation: string;
  readonly build_seconds: number;
  readonly gates: readonly GateResult[];
  readonly recall: { readonly target: number };
  readonly diff?: Diff;
}

export const fetchGenerations = (): Promise<Generations> => getJson('/admin/generations');
export const fetchRebuild = (): Promise<Rebuild> => getJson('/admin/rebuild');
export const fetchReport = (id: string): Promise<Report> =>
  getJson(`/admin/generations/${encodeURIComponent(id)}/report`);
/** As a data address: an image that the browser fetches by itself would carry no key. */
export const pictureOf = async (id: string): Promise<string> =>
  `data:image/svg+xml,${encodeURIComponent(await getText(`/admin/generations/${encodeURIComponent(id)}/report.svg`))}`;
export const activate = (id: string): Promise<{ readonly serving: string | null; readonly problem?: Problem }> =>
  postJson(`/admin/generations/${encodeURIComponent(id)}/activate`);
