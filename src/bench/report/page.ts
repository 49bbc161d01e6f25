/** What the HTML report brings along: its style, and the script that tells the value under the pointer. */

export const PAGE_STYLE = `
*{box-sizing:border-box}
body{margin:0;background:var(--surface);color:var(--text);font:15px/1.5 system-ui,sans-serif}
header,main{max-width:980px;margin:0 auto;padding:0 24px}
header{padding-top:40px}
.kind{margin:0;color:var(--soft);font:13px ui-monospace,monospace}
h1{margin:4px 0 8px;font-size:30px;line-height:1.2;letter-spacing:-.01em}
.subject{margin:0;max-width:72ch;overflow-wrap:anywhere}
.when{margin:4px 0 0;color:var(--soft);font-size:13px}
h2{margin:40px 0 12px;font-size:19px}
h3{margin:0;font-size:15px}
.card{margin:0 0 16px;padding:16px;background:var(--raised);border:1px solid var(--grid);border-radius:8px}
.card p{margin:4px 0 0;color:var(--soft);font-size:13px}
.scroll{overflow-x:auto}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:12px}
.tile{display:flex;flex-direction:column;padding:12px 14px;background:var(--raised);border:1px solid var(--grid);border-radius:8px}
.tile span{color:var(--soft);font-size:13px;line-height:1.35}
.tile b{margin-top:auto;padding-top:4px;font-size:22px;font-weight:600}
.tile i{color:var(--soft);font-size:12px;font-style:normal;line-height:1.35;overflow-wrap:anywhere}
figcaption{margin-bottom:8px}
figure{position:relative}
figure svg{display:block;width:100%;height:auto}
.legend{cursor:pointer}.legend.off{opacity:.35}.series.off{display:none}
.cursor{stroke:var(--faint);pointer-events:none}
table{margin-top:8px;border-collapse:collapse;font-size:14px;width:100%}
th{padding:4px 12px 4px 0;color:var(--soft);font-weight:500;text-align:left;border-bottom:1px solid var(--axis)}
td{padding:4px 12px 4px 0;border-bottom:1px solid var(--grid);overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}
.warnings{margin:0;padding:12px 16px 12px 32px;background:var(--raised);border:1px solid var(--grid);border-left:4px solid var(--c3);border-radius:8px}
.warnings li{margin:4px 0}
pre{margin:8px 0;padding:12px;overflow-x:auto;background:var(--surface);border:1px solid var(--grid);border-radius:6px;font:13px ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--soft)}
#tip{position:fixed;z-index:1;max-width:320px;padding:8px 10px;background:var(--raised);border:1px solid var(--axis);border-radius:6px;box-shadow:0 4px 14px rgb(0 0 0/.18);font-size:13px;pointer-events:none}
#tip div{display:flex;gap:8px;align-items:center;white-space:nowrap}
#tip i{width:10px;height:10px;border-radius:2px}
#tip b{margin-left:auto;padding-left:12px;font-variant-numeric:tabular-nums}
main{padding-bottom:64px}
@media print{.card{break-inside:avoid}#tip{display:none}}
`;

/**
 * Plain script, inlined. Pointing at a plot finds the nearest x (or, among dots, the nearest point) and tells the values there;
 * clicking a legend entry hides its series.
 */
export const PAGE_SCRIPT = `
'use strict';
const plots = JSON.parse(document.getElementById('hover').textContent);
const tip = document.getElementById('tip');
for (const figure of document.querySelectorAll('figure[data-plot]')) {
  const svg = figure.querySelector('svg');
  const { by, top, bottom, series } = plots[figure.dataset.plot];
  const hidden = new Set();
  const cursor = document.createElementNS('http://www.w3.org/2000/svg', 'line');
  cursor.setAttribute('class', 'cursor');
  cursor.setAttribute('y1', top);
  cursor.setAttribute('y2', bottom);
  const leave = () => { tip.hidden = true; cursor.remove(); };
  const nearest = (points, distance) => {
    let best, least = Infinity;
    for (const point of points) { const d = distance(point); if (d < least) { least = d; best = point; } }
    return best && { ...best, distance: least };
  };
  svg.addEventListener('pointermove', (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const shown = series.map((one, i) => ({ ...one, i })).filter(({ i, points }) => !hidden.has(i) && points.length > 0);
    if (shown.length === 0 || at.y < top || at.y > bottom) return leave();
    const distance = by === 'x' ? (p) => Math.abs(p.x - at.x) : (p) => Math.hypot(p.x - at.x, p.y - at.y);
    let found = shown.map((one) => ({ ...one, point: nearest(one.points, distance) }));
    const closest = found.reduce((a, b) => (b.point.distance < a.point.distance ? b : a));
    if (by === 'point') found = [closest];
    else found = found.filter(({ point }) => Math.abs(point.x - closest.point.x) < 1);
    cursor.setAttribute('x1', closest.point.x);
    cursor.setAttribute('x2', closest.point.x);
    svg.append(cursor);
    const head = document.createElement('div');
    head.textContent = closest.point.xText;
    const rows = found.map(({ name, colour, point }) => {
      const row = document.createElement('div');
      const dot = document.createElement('i');
      dot.style.background = 'var(--' + (colour === 'muted' ? 'faint' : colour) + ')';
      const value = document.createElement('b');
      value.textContent = point.yText;
      row.append(dot, name, value);
      return row;
    });
    tip.replaceChildren(head, ...rows);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16;
    tip.style.left = Math.max(4, left) + 'px';
    tip.style.top = Math.max(4, Math.min(event.clientY - height / 2, innerHeight - height - 4)) + 'px';
  });
  svg.addEventListener('pointerleave', leave);
  for (const entry of svg.querySelectorAll('.legend')) {
    entry.setAttribute('tabindex', '0');
    entry.setAttribute('role', 'button');
    entry.setAttribute('aria-pressed', 'true');
    const toggle = () => {
      const i = Number(entry.dataset.series);
      const isOff = !hidden.delete(i) && Boolean(hidden.add(i));
      entry.classList.toggle('off', isOff);
      entry.setAttribute('aria-pressed', String(!isOff));
      svg.querySelector('.series[data-series="' + i + '"]').classList.toggle('off', isOff);
    };
    entry.addEventListener('click', toggle);
    entry.addEventListener('keydown', (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); toggle(); } });
  }
}
`;
