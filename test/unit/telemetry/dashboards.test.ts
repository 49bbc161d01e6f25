/** The dashboard and the alert rules ask only for metrics and labels that a server has. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { GenerationStore } from '../../../src/generation/store.js';
import { buildApp } from '../../../src/http/app.js';
import { Retriever } from '../../../src/retrieval/retriever.js';
import { DEFAULTS } from '../../../src/config/schema.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { ScorerMetrics } from '../../../src/telemetry/scorer-metrics.js';

const file = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../../../docs/observability/${name}`, import.meta.url)), 'utf8');

/** Whatever Prometheus adds to each series. */
const OF_PROMETHEUS = ['job', 'instance', 'le'];

async function metricsOf(): Promise<Map<string, readonly string[]>> {
  const metrics = new Metrics();
  new ScorerMetrics(metrics.registry); // as the follower makes it
  const retriever = new Retriever(new GenerationStore(), metrics);
  const app = await buildApp({ retriever, metrics, settings: DEFAULTS, version: 'test' });
  const text = (await app.inject({ url: '/metrics' })).body;
  await app.close();
  const told = new Set([...text.matchAll(/^# HELP (\S+) /gm)].map(([, name]) => name as string));
  const known = (metrics.registry.getMetricsAsArray() as unknown as { name: string; labelNames?: string[] }[]).map(
    ({ name, labelNames = [] }): [string, readonly string[]] => [name, labelNames],
  );
  return new Map(known.filter(([name]) => told.has(name)));
}

/** What an expression names that is not there. */
function unknownIn(expression: string, metrics: ReadonlyMap<string, readonly string[]>): string[] {
  const names = [...expression.matchAll(/\b(belfry|process|nodejs)_\w+/g)].map(([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  );
  const labels = [
    ...[...expression.matchAll(/\b(?:by|on|without)\s*\(([^)]*)\)/g)].flatMap(([, list]) => list!.split(/,\s*/)),
    ...[...expression.matchAll(/[{,]\s*(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, name]) => name!),
  ].filter((label) => label !== '');
  const allowed = new Set([...OF_PROMETHEUS, ...names.flatMap((name) => metrics.get(name) ?? [])]);
  return [
    ...names.filter((name) => !metrics.has(name)),
    ...labels.filter((label) => !allowed.has(label)).map((label) => `label ${label} of ${names.join(', ')}`),
  ];
}

interface Panel {
  title: string;
  type: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string; legendFormat: string }[];
}

describe('docs/observability', () => {
  it('grafana-dashboard.json', async () => {
    const metrics = await metricsOf();
    const dashboard = JSON.parse(file('grafana-dashboard.json')) as {
      panels: Panel[];
      annotations: { list: { expr: string }[] };
    };
    const panels = dashboard.panels.filter(({ type }) => type !== 'row');
    const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(expressions.length).toBeGreaterThan(30);
    for (const expression of [...expressions, ...dashboard.annotations.list.map(({ expr }) => expr)])
      expect(unknownIn(expression, metrics), expression).toEqual([]);
    for (const { title, targets = [], gridPos } of panels) {
      expect(targets.length, title).toBeGreaterThan(0);
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (const { expr, legendFormat } of targets) {
        const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!);
        expect(
          shown.filter((label) => label !== 'instance' && !new RegExp(`by \\([^)]*\\b${label}\\b`).test(expr)),
          title,
        ).toEqual([]);
      }
    }
  });

  it('alert-rules.yaml', async () => {
    const metrics = await metricsOf();
    const { groups } = parse(file('alert-rules.yaml')) as {
      groups: {
        rules: { alert: string; expr: string; labels: Record<string, string>; annotations: { summary: string } }[];
      }[];
    };
    const rules = groups.flatMap((group) => group.rules);
    expect(rules.length).toBeGreaterThan(10);
    for (const { alert, expr, labels, annotations } of rules) {
      expect(unknownIn(expr, metrics), alert).toEqual([]);
      expect(labels.severity, alert).toMatch(/^(page|ticket)$/);
      const shown = [...annotations.summary.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label!);
      const isKept = (label: string) => label === 'instance' || new RegExp(`by \\([^)]*\\b${label}\\b`).test(expr);
      expect(
        shown.filter((label) => !isKept(label)),
        alert,
      ).toEqual([]);
    }
  });

  it('would not pass with a metric or a label that is not there', async () => {
    const metrics = await metricsOf();
    expect(unknownIn('rate(belfry_requests_total[5m])', metrics)).toEqual(['belfry_requests_total']);
    expect(unknownIn('sum by (stage) (belfry_degraded_total)', metrics)).toEqual([
      'label stage of belfry_degraded_total',
    ]);
    expect(unknownIn('belfry_degraded_total{why="x"}', metrics)).toEqual(['label why of belfry_degraded_total']);
  });
});
