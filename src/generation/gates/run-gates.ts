/** All gates of a build, in the order of their cost: input, skew, recall, canaries. The first that fails ends the build. */
import { Searcher } from '../../ann/searcher.js';
import { BelfryError } from '../../errors.js';
import type { PublishedGeneration } from '../data-folder.js';
import { type FileFacts, writeDurable } from '../files.js';
import type { Manifest } from '../manifest.js';
import { agreement } from './agreement.js';
import {
  type Canaries,
  CANARIES_FILE,
  type CanarySubject,
  readCanaries,
  recordCanaries,
  type RecordedTower,
} from './canaries.js';
import { type GateName, type GateResult, Gatekeeper, GATE_NAMES } from './gate.js';
import { inputFinding } from './input.js';
import { tuneRecall } from './recall.js';
import { checkModels } from './skew.js';
import { openSubject } from './subject.js';
import { readSupplied, SUPPLIED_FILE, trySupplied } from './supplied-canaries.js';
import { type GateThresholds, gateThresholds } from './thresholds.js';
import { join } from 'node:path';

export interface GateOptions {
  /** Thresholds other than the defaults. */
  readonly thresholds?: Partial<GateThresholds> | undefined;
  /** Gates that may fail: the generation is published all the same, and says so. */
  readonly overrides?: readonly GateName[] | undefined;
  /** Hears of every verdict, that of a refusal too. */
  readonly onGate?: ((result: GateResult) => void) | undefined;
}

/** What a manifest says before the gates have spoken. */
export type Draft = Omit<Manifest, 'gates' | 'overrides' | 'search' | 'canaries' | 'report' | 'buildMs' | 'pins'>;

export class Gates {
  private readonly keeper: Gatekeeper;
  private readonly limits: GateThresholds;

  /** Errors: BELFRY_CONFIG_INVALID for a gate that does not exist. */
  constructor(
    private readonly modelsFolder: string,
    /** Of the generation that is being built. */
    private readonly folder: string,
    private readonly previous: PublishedGeneration | undefined,
    options: GateOptions,
  ) {
    const unknown = options.overrides?.find((name) => !GATE_NAMES.includes(name));
    if (unknown !== undefined) {
      throw new BelfryError(
        'BELFRY_CONFIG_INVALID',
        `override: expected ${GATE_NAMES.join(', ')}, received ${unknown}`,
        { field: 'override' },
      );
    }
    this.keeper = new Gatekeeper(new Set(options.overrides), options.onGate);
    this.limits = gateThresholds(options.thresholds);
  }

  get results(): readonly GateResult[] {
    return this.keeper.results;
  }

  /** Gates that need no index. Error: BELFRY_INPUT_GATE, BELFRY_SKEW, those of openModels. */
  async beforeIndex(draft: Draft): Promise<{ featureSchema: string; tower?: RecordedTower }> {
    this.keeper.judge('input', inputFinding(draft, this.previous?.manifest, this.limits));
    return checkModels(this.folder, draft, this.keeper, this.limits);
  }

  /** Gates that search, and the canaries to keep. Errors: BELFRY_RECALL, BELFRY_CANARIES. */
  async withIndex(
    draft: Draft,
    tower: RecordedTower | undefined,
    threads?: number,
  ): Promise<Pick<Manifest, 'search' | 'canaries'> & { facts: FileFacts }> {
    const subject = await openSubject(this.folder, draft, threads);
    try {
      const calibration = draft.graph?.calibration;
      const tuned = await tuneRecall(subject, calibration, this.previous?.manifest, this.limits);
      if (tuned === undefined) this.keeper.skip('recall', 'there are no items to find');
      else this.keeper.judge('recall', tuned.finding);
      const recall = tuned?.recall ?? 1;
      const searcher = new Searcher(subject.index, calibration, recall);
      const supplied = await this.judgeCanaries({ ...subject, searcher }, draft);
      const canaries = await recordCanaries({ ...subject, searcher }, tower);
      return {
        search: { recall },
        canaries: { ...describe(canaries), supplied },
        facts: await writeDurable(join(this.folder, CANARIES_FILE), JSON.stringify(canaries), 'canaries'),
      };
    } finally {
      subject.close();
    }
  }

  /** Resolves to the number of canaries that people wrote. */
  private async judgeCanaries(subject: CanarySubject, { metric }: Draft): Promise<number> {
    const supplied = await readSupplied(this.modelsFolder);
    const failures = await trySupplied(subject, supplied);
    const before = this.previous && (await readCanaries(this.previous.folder).catch(asNothing));
    const agreed = before && (await agreement(subject, before, metric));
    const written = supplied.length === 0 ? [] : [`${supplied.length} of ${SUPPLIED_FILE}`];
    const compared = agreed === undefined ? [] : [`${agreed.requests} recorded by generation ${this.previous!.id}`];
    if (agreed === undefined && supplied.length === 0) {
      const why =
        before === undefined ? 'there is no generation before' : 'too few ids are those of the generation before';
      this.keeper.skip('canaries', `${why}, and no ${SUPPLIED_FILE}`);
      return 0;
    }
    this.keeper.judge('canaries', {
      detail: `requests: ${[...compared, ...written].join(', ')}`,
      measurements: [
        ...(agreed === undefined
          ? []
          : [
              { what: 'pairs ordered as before', value: agreed.pairs, min: this.limits.gate_agreement },
              { what: 'answers kept', value: agreed.kept },
            ]),
        ...(supplied.length === 0
          ? []
          : [{ what: 'written canaries that hold', value: supplied.length - failures.length }]),
      ],
      failures,
      cure: 'look whether ids and vectors of users and items are in the same order and of the same training',
      field: 'canaries',
    });
    return supplied.length;
  }
}

function describe({ recorded, k, tower }: Canaries): Omit<Manifest['canaries'], 'supplied'> {
  return { file: CANARIES_FILE, requests: recorded.length, k, towerUsers: tower?.users.length ?? 0 };
}

/** Damaged canaries of the generation before are its own trouble. */
function asNothing(error: unknown): undefined {
  if (error instanceof BelfryError) return undefined;
  throw error;
}
