// One run over one data set: starts the engines, measures the grid in the first round and the points that matter in the
// later ones, every round over all engines in turn, so that a slow minute of the machine touches all of them.
import { ENGINES, expandGrid } from '../trials.mjs';
import { EngineProcess } from './engine-process.mjs';
import { aroundTargets, median, qpsAt } from './pareto.mjs';
import { recallOf } from './recall.mjs';

/** A pass over the queries that takes longer ends the growth of its parameter. */
const PASS_SECONDS_MAX = 30;
/** Points on either side of a recall asked for that are measured in every round. */
const BESIDE = 2;

export class Session {
  /** @param {{ settings: object, dataset: object, items: Float32Array, queries: Float32Array, kth: Float64Array, truthPath: string }} given */
  constructor(given) {
    Object.assign(this, given);
    this.trials = [];
    this.engines = [];
  }

  /** Builds and loads each engine; what cannot be is kept with its reason. */
  async start() {
    for (const name of this.settings.engines) {
      const engine = { name, builds: [] };
      this.engines.push(engine);
      for (const plan of ENGINES[name].builds) {
        const build = { plan, points: [] };
        engine.builds.push(build);
        if (plan.metrics !== undefined && !plan.metrics.includes(this.dataset.metric)) {
          build.absent = `not for metric ${this.dataset.metric}`;
          continue;
        }
        try {
          build.process = new EngineProcess(name, plan, this);
          build.record = build.process.ensureBuilt();
          if (!this.settings.buildsOnly) build.memory = await build.process.start();
        } catch (error) {
          build.absent = error.message;
          process.stderr.write(`bench: ${name} ${JSON.stringify(plan.params)} is absent: ${error.message}\n`);
        }
      }
    }
  }

  async stop() {
    for (const { builds } of this.engines) for (const build of builds) await build.process?.stop();
  }

  async measure() {
    const ceiling = this.settings.recalls.at(-1);
    for (const engine of this.engines) await this.#firstRound(engine, ceiling);
    for (let round = 2; round <= this.settings.repeats; round++) {
      for (const engine of this.engines) {
        const points = engine.builds.flatMap((build) => build.points);
        for (const point of aroundTargets(points, this.settings.recalls, BESIDE))
          await this.#again(engine, point, round);
      }
    }
  }

  async #firstRound(engine, ceiling) {
    for (const build of engine.builds) {
      if (build.absent !== undefined) continue;
      process.stderr.write(`bench: round 1: ${engine.name} ${JSON.stringify(build.plan.params)}\n`);
      for (const chain of expandGrid(build.plan.search, this.settings.k)) {
        for (const params of chain) {
          const result = await this.#trial(engine, build, params, 1);
          if (result === undefined) break;
          const point = { params, recall: result.recall, runs: [result.qps], qps: result.qps, build };
          build.points.push(point);
          if (result.recall >= ceiling || result.passSeconds > PASS_SECONDS_MAX) break;
        }
      }
    }
  }

  async #again(engine, point, round) {
    const result = await this.#trial(engine, point.build, point.params, round);
    if (result === undefined) return;
    point.runs.push(result.qps);
    point.qps = median(point.runs);
  }

  /** Undefined when the engine could not do it; the reason is kept with the build. */
  async #trial(engine, build, params, round) {
    try {
      const said = await build.process.trial(params);
      const { queryCount, k } = this.settings;
      const qps = said.qps ?? said.queries / said.seconds;
      const recall = said.recall ?? this.recall(build.process.rows(), k, engine.name);
      build.resident ??= said.resident;
      this.trials.push({
        engine: engine.name,
        build: build.plan.params,
        params,
        round,
        k,
        recall,
        qps,
        kernel: said.kernel,
      });
      return { recall, qps, passSeconds: queryCount / qps };
    } catch (error) {
      build.failed = error.message;
      process.stderr.write(`bench: ${engine.name} ${JSON.stringify(params)} failed: ${error.message}\n`);
      return undefined;
    }
  }

  recall(rows, k, engine, kth = this.kth) {
    const { metric, dims } = this.dataset;
    const { items, queries } = this;
    return recallOf({ metric, items, queries, dims, rows, kth, count: rows.length / k, k, engine });
  }

  /** The report's `engines`: per engine build_s, bytes_per_item, points, qps_at_recall; or why it is absent. */
  summary() {
    return Object.fromEntries(this.engines.map((engine) => [engine.name, this.#summaryOf(engine)]));
  }

  #summaryOf(engine) {
    const { recalls } = this.settings;
    const builds = engine.builds.map((build) => this.#buildSummary(build));
    const here = engine.builds.filter((build) => build.absent === undefined);
    if (here.length === 0) return { absent: engine.builds.map((build) => build.absent).join('; '), builds };
    const main = recalls.includes(0.95) ? 0.95 : recalls[0];
    const points = here.flatMap((build) => build.points);
    // Build time and memory are those of the build that is fastest at the main recall (or comes nearest to it).
    const rank = (build) => qpsAt(build.points, main) ?? Math.max(-1, ...build.points.map((point) => point.recall - 1));
    const best = here.reduce((a, b) => (rank(b) > rank(a) ? b : a));
    const { build_s, build_cpu_s, build_threads, bytes_per_item, mapped_bytes_per_item } =
      builds[engine.builds.indexOf(best)];
    return {
      version: best.record.version,
      build_s,
      build_cpu_s,
      build_threads,
      bytes_per_item,
      mapped_bytes_per_item,
      qps_at_recall: Object.fromEntries(recalls.map((recall) => [recall, roundTo(qpsAt(points, recall), 1)])),
      recall_max: roundTo(Math.max(0, ...points.map((point) => point.recall)), 4),
      points: points
        .map(({ build, params, recall, qps, runs }) => ({
          params,
          ...(here.length > 1 ? { build: build.plan.params } : {}),
          recall: roundTo(recall, 4),
          qps: roundTo(qps, 1),
          runs: runs.length,
        }))
        .sort((a, b) => a.recall - b.recall),
      builds,
      ...(ENGINES[engine.name].path === 'parlayann'
        ? {
            note: 'recall by its own count against our truth; bytes are of the whole process, which keeps the f32 vectors',
          }
        : {}),
    };
  }

  #buildSummary(build) {
    const { rows } = this.dataset;
    const record = build.record ?? {};
    const memory = build.resident && {
      bytes_per_item: roundTo((build.resident.anonymous - build.memory.before.anonymous) / rows, 1),
      mapped_bytes_per_item: roundTo((build.resident.mapped - build.memory.before.mapped) / rows, 1),
      ...(build.memory.own_bytes ? { own_bytes_per_item: roundTo(build.memory.own_bytes / rows, 1) } : {}),
    };
    return {
      params: build.plan.params,
      ...(build.absent === undefined ? {} : { absent: build.absent }),
      ...(build.failed === undefined ? {} : { failed: build.failed }),
      build_s: roundTo(record.build_s ?? null, 2),
      // Far below build_s times threads: the machine was busy with something else.
      build_cpu_s: roundTo(record.build_cpu_s ?? null, 2),
      build_threads: record.threads ?? null,
      ...memory,
    };
  }
}

export function roundTo(value, digits) {
  return value === null || value === undefined || !Number.isFinite(value) ? null : Number(value.toFixed(digits));
}

/** Belfry's queries per second over each other engine's, by recall; null where one of them does not reach it. */
export function ratiosOf(engines, recalls, ours = 'belfry') {
  const own = engines[ours]?.qps_at_recall;
  if (own === undefined) return {};
  const others = Object.entries(engines).filter(([name, engine]) => name !== ours && engine.absent === undefined);
  return Object.fromEntries(
    recalls.map((recall) => [
      recall,
      Object.fromEntries(
        others.map(([name, { qps_at_recall: theirs }]) => [
          name,
          own[recall] === null || theirs[recall] === null ? null : roundTo(own[recall] / theirs[recall], 2),
        ]),
      ),
    ]),
  );
}
