/** The report as text: numbers, axes, Markdown, SVG and HTML. */
import { describe, expect, it } from 'vitest';
import { formatNumber, formatValue } from '../../../src/bench/report/format.js';
import { toHtml } from '../../../src/bench/report/html.js';
import { toMarkdown } from '../../../src/bench/report/markdown.js';
import { scaleFor } from '../../../src/bench/report/scales.js';
import type { BenchReport, Plot } from '../../../src/bench/report/schema.js';
import { drawPlot, standaloneSvg } from '../../../src/bench/report/svg.js';
import { sparkLine } from '../../../src/cli/load-view.js';

const PLOT: Plot = {
  id: 'p',
  title: 'A <b> & "c"',
  x: { label: 'time', scale: 'linear', unit: 'seconds' },
  y: { label: 'latency', scale: 'log', unit: 'ms' },
  series: [
    {
      name: 'one',
      style: 'line',
      points: [
        [0, 1],
        [1, 10],
        [2, 100],
      ],
    },
    {
      name: 'two',
      style: 'line',
      points: [
        [0, 2],
        [1, 2],
      ],
      muted: true,
    },
  ],
};

const REPORT: BenchReport = {
  format: 1,
  bench: 'load',
  title: 'Load </script><script>alert(1)</script>',
  subject: 's',
  command: 'belfry bench load',
  started: '2026-01-01T00:00:00.000Z',
  seconds: 1,
  machine: { cpu: 'cpu', cores: 2, memory_bytes: 16e9, os: 'Linux', kernels: ['avx2'] },
  versions: { belfry: '1.0.0', node: '20.0.0' },
  settings: { text: '</script>' },
  summary: [{ name: 'm', label: 'M', value: 1, unit: 'ms', better: 'lower' }],
  gates: [{ name: '--max', limit: 1, value: 2, unit: 'ms', passed: false }],
  tables: [
    {
      id: 't',
      title: 'T',
      columns: [{ label: 'a|b' }, { label: 'n', unit: 'share' }],
      rows: [
        ['x|y', 0.5],
        ['z', null],
      ],
    },
  ],
  plots: [PLOT],
  warnings: [{ code: 'w', message: 'careful' }],
};

describe('numbers', () => {
  it.each([
    [0.12345, 'ms', '0.123 ms'],
    [1234.5, 'rate', '1,235 /s'],
    [0.99996, 'share', '99.996 %'],
    [0.999999, 'share', '99.999 %'], // never rounded up to all of it
    [1, 'share', '100 %'],
    [0, 'share', '0 %'],
    [0.5, 'share', '50.0 %'],
    [1_500_000, 'bytes', '1.5 MB'],
    [1.234, 'ratio', '1.23x'],
    [null, 'ms', '–'],
  ] as const)('%s %s is %s', (value, unit, text) => {
    expect(formatValue(value, unit)).toBe(text);
  });

  it('keeps what a small number says', () => {
    expect([0, 0.00012, 3, 12.34, 123.4].map(formatNumber)).toEqual(['0', '1.2e-4', '3', '12.3', '123']);
  });
});

describe('axes', () => {
  it('puts the nines equally far apart, and 1 beyond the last', () => {
    const scale = scaleFor({ label: '', scale: 'nines', unit: 'share', min: 0 }, [0.9, 0.99, 0.999, 1], 8);
    const [a, b, c, one] = [0.9, 0.99, 0.999, 1].map((value) => scale.position(value)) as [
      number,
      number,
      number,
      number,
    ];
    expect(b - a).toBeCloseTo(c - b, 10);
    expect(one).toBe(1);
    expect(c).toBeLessThan(1);
    expect(scale.ticks.map(({ label }) => label)).toEqual(expect.arrayContaining(['0 %', '99 %', '99.9 %', '100 %']));
  });

  it('has round ticks that hold all values', () => {
    const linear = scaleFor({ label: '', scale: 'linear' }, [3, 97], 5);
    expect(linear.ticks.map(({ label }) => label)).toEqual(['0', '20', '40', '60', '80', '100']);
    const log = scaleFor({ label: '', scale: 'log', unit: 'ms' }, [3, 450], 5);
    expect([log.ticks[0]?.label, log.ticks.at(-1)?.label]).toEqual(['2', '500']);
    for (const axis of ['linear', 'log', 'nines', 'category'] as const) {
      for (const values of [[], [0], [5, 5], [0, 0]]) {
        const { position, ticks } = scaleFor({ label: '', scale: axis }, values, 5);
        for (const value of [...values, 0.5]) expect(position(value)).toBeGreaterThanOrEqual(0);
        for (const { at } of ticks) expect(Number.isFinite(at)).toBe(true);
      }
    }
  });
});

describe('plots', () => {
  it('draws what is given at the place of its value', () => {
    const { svg, hover } = drawPlot(PLOT);
    const ys = hover.series[0]!.points.map(({ y }) => y);
    expect(ys[0]! - ys[1]!).toBeCloseTo(ys[1]! - ys[2]!, 0); // 1, 10, 100 on a log axis
    expect(hover.series[0]!.points[1]).toMatchObject({ xText: 'time 1 s', yText: '10 ms' });
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    // Context is drawn first, so that it lies below.
    expect(svg.indexOf('class="series muted"')).toBeLessThan(svg.indexOf('class="series c0"'));
  });

  it('stacks areas, and tells the value and not the height of the stack', () => {
    const area = (name: string, value: number) => ({
      name,
      style: 'area' as const,
      points: [
        [0, value],
        [1, value],
      ] as [number, number][],
    });
    const y = { label: 'n', scale: 'linear', unit: 'count', min: 0 } as const;
    const { hover } = drawPlot({ ...PLOT, y, series: [area('a', 10), area('b', 5)] });
    const [a, b] = hover.series.map(({ points }) => points[0]!);
    expect(b!.y).toBeLessThan(a!.y);
    expect(b!.yText).toBe('5');
  });

  it('draws any style of nothing, one and many points', () => {
    for (const style of ['line', 'dots', 'steps', 'area', 'bars'] as const)
      for (const points of [
        [],
        [[0, 1]],
        [
          [0, 1],
          [1, 0],
          [2, 5],
        ],
      ] as [number, number][][]) {
        const x = style === 'bars' ? { label: '', scale: 'category' as const, categories: ['a', 'b', 'c'] } : PLOT.x;
        const y = { label: '', scale: 'linear' as const };
        const { svg } = drawPlot({
          ...PLOT,
          x,
          y,
          series: [{ name: 's', style, points }],
          marks: [
            { x: 1, label: 'now' },
            { y: 2, label: 'limit' },
          ],
        });
        expect(svg).not.toMatch(/NaN|Infinity|undefined/);
      }
  });

  it('is a file of its own, for both colour schemes, and the same each time', () => {
    const svg = standaloneSvg(PLOT);
    expect(svg).toContain('prefers-color-scheme:dark');
    expect(svg).toContain('A &lt;b&gt; &amp; &quot;c&quot;');
    expect(standaloneSvg(PLOT)).toBe(svg);
  });
});

describe('documents', () => {
  it('are Markdown with the numbers and the plots', () => {
    const text = toMarkdown(REPORT);
    expect(text).toContain('| x\\|y | 50.0 % |');
    expect(text).toContain('](plots/p.svg)');
    expect(text).toContain('**failed**');
  });

  it('are one HTML file that loads nothing and lets no text become code', () => {
    const html = toHtml(REPORT);
    expect(html).not.toMatch(/(src|href)="(?!data:)/);
    expect(html).not.toMatch(/https?:\/\/(?!www\.w3\.org)/);
    expect(html).not.toContain('<script>alert');
    expect(html.match(/<\/script>/g)).toHaveLength(2);
    expect(html).toContain('✗ failed');
  });
});

describe('terminal', () => {
  it('draws the last seconds on a logarithmic scale', () => {
    expect(sparkLine([1, 1, 100, 1])).toBe('▁▁█▁');
    expect(sparkLine([])).toBe('');
    expect(new Set(sparkLine([1, 1.01, 1.02])).size).toBe(1); // noise is no mountain
  });
});
