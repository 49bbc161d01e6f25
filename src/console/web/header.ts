/** What is being served: generation, numbers, models, whether it is ready. */
import { isReady } from './api.js';
import { createMenu } from './column-chooser.js';
import type { Info, ModelInfo } from './contract.js';
import { byId, h, replace } from './dom.js';
import { count } from './format.js';

const READY_EVERY_MS = 10_000;

export function drawHeader(info: Info): void {
  const facts: [string, string][] = [
    [count(info.items), 'items'],
    [count(info.users), 'users'],
    [count(info.dims), 'dims'],
    [metricName(info.metric), 'metric'],
    [info.kernel, 'kernel'],
  ];
  replace(
    byId('generation'),
    h('span', { class: 'sr-only' }, 'Generation '),
    h('code', { title: `Generation, made ${new Date(info.created).toLocaleString()}` }, info.generation),
  );
  replace(byId('facts'), ...facts.map(([value, name]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
  replace(
    byId('models'),
    ...info.models.map(modelBadge),
    info.gates.length > 0 && checksMenu(info),
    info.models.length === 0 && h('span', { class: 'muted' }, 'no models: stored embeddings only'),
  );
}

export function watchReadiness(): void {
  const dot = byId('ready');
  const look = async (): Promise<void> => {
    if (document.hidden) return;
    const ready = await isReady();
    if (dot.dataset.ready === String(ready)) return; // a screen reader would say it again
    dot.dataset.ready = String(ready);
    replace(dot, ready ? 'ready' : 'not ready');
  };
  void look();
  window.setInterval(() => void look(), READY_EVERY_MS);
}

function modelBadge(model: ModelInfo): HTMLElement {
  const role = model.role.replaceAll('_', ' ');
  return h(
    'span',
    { class: 'model', title: `${model.name}@${model.version}: ${role}, ${model.format}` },
    h('span', { class: 'model-name' }, model.model, ' ', h('small', {}, model.version)),
    h('span', { class: 'stage', 'data-stage': model.stage }, model.stage),
    !model.runs &&
      h('span', { class: 'stage off', title: `${model.format} is not run by this process` }, 'not run here'),
  );
}

function checksMenu(info: Info): HTMLElement {
  const good = info.gates.filter(({ status }) => isGood(status)).length;
  return createMenu(
    `${good}/${info.gates.length} gates`,
    h(
      'ul',
      { class: 'check-list' },
      ...info.gates.map(({ name, status, detail }) =>
        h(
          'li',
          {},
          h('span', { class: `check ${isGood(status) ? 'good' : 'poor'}` }, status),
          h('div', {}, h('b', {}, name), h('p', {}, detail)),
        ),
      ),
    ),
    'right',
  );
}

const isGood = (status: string): boolean => ['ok', 'pass', 'passed'].includes(status);

function metricName(metric: string): string {
  return metric === 'ip' ? 'inner product' : metric === 'l2' ? 'L2' : metric;
}
