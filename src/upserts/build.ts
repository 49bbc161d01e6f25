/** Builds that take over the upserts of their data folder: the way that every build of it must go. */
import {
  type BuildOptions,
  type BuildResult,
  buildGeneration as build,
  ensureGeneration as ensure,
} from '../generation/build.js';
import type { PublishedGeneration } from '../generation/data-folder.js';
import { FoldIn } from './fold-in.js';

/** See generation/build.ts. */
export function buildGeneration(options: BuildOptions): Promise<PublishedGeneration> {
  return build(withUpserts(options));
}

/** See generation/build.ts. */
export function ensureGeneration(options: BuildOptions): Promise<BuildResult> {
  return ensure(withUpserts(options));
}

function withUpserts(options: BuildOptions): BuildOptions {
  return { upserts: new FoldIn(options.data, options.onWarning), ...options };
}
