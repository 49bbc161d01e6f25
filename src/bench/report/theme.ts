/** Colours of plots and pages, light and dark: a palette that people with colour-blindness can tell apart. */
const LIGHT = {
  surface: '#fcfcfb',
  raised: '#ffffff',
  text: '#0b0b0b',
  soft: '#52514e',
  faint: '#898781',
  grid: '#e6e5de',
  axis: '#c3c2b7',
  c0: '#2a78d6',
  c1: '#eb6834',
  c2: '#1baf7a',
  c3: '#eda100',
  c4: '#e87ba4',
  c5: '#008300',
  c6: '#4a3aa7',
  c7: '#e34948',
  good: '#006300',
  bad: '#c02a2a',
};
const DARK: typeof LIGHT = {
  surface: '#1a1a19',
  raised: '#222221',
  text: '#ffffff',
  soft: '#c3c2b7',
  faint: '#898781',
  grid: '#2f2f2c',
  axis: '#4a4a46',
  c0: '#3987e5',
  c1: '#d95926',
  c2: '#199e70',
  c3: '#c98500',
  c4: '#d55181',
  c5: '#1f9e1f',
  c6: '#9085e9',
  c7: '#e66767',
  good: '#0ca30c',
  bad: '#ff7b72',
};

const variables = (colours: typeof LIGHT) =>
  Object.entries(colours)
    .map(([name, value]) => `--${name}:${value}`)
    .join(';');

const series = Object.keys(LIGHT)
  .filter((name) => /^c\d$/.test(name))
  .map((name) => `.${name} .line{stroke:var(--${name})}.${name} .fill{fill:var(--${name})}`)
  .join('');

/** For a page, and for an SVG on its own. */
export const THEME = `:root{color-scheme:light dark;${variables(LIGHT)}}
@media (prefers-color-scheme:dark){:root{${variables(DARK)}}}
.surface{fill:var(--surface)}.grid{stroke:var(--grid)}.axis{stroke:var(--axis)}
.mark{stroke:var(--soft);stroke-dasharray:4 4}.line{fill:none;stroke-width:2;stroke-linejoin:round}
.dot{stroke:var(--surface);stroke-width:1.5}.area{fill-opacity:.55}
.title{font-size:16px;font-weight:600;fill:var(--text)}.label{fill:var(--soft)}.tick,.note{fill:var(--soft);font-size:12px}
.tick{font-variant-numeric:tabular-nums}.note{stroke:var(--surface);stroke-width:4px;paint-order:stroke}
${series}.muted .line{stroke:var(--faint);stroke-width:1.5}.muted .fill{fill:var(--faint)}`;
