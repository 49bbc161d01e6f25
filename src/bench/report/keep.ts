/** The last reports about a data folder, kept in it: the console page of its server shows them. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toHtml } from './html.js';
import type { BenchReport } from './schema.js';

/** In the data folder, beside the generations. */
const FOLDER = 'bench';
const KEPT = 20;

/** `bench/<started>-<bench>/report.json` and `report.html`; older ones than the last 20 go. */
export async function keepReport(report: BenchReport, data: string): Promise<void> {
  const all = join(data, FOLDER);
  const stamp = report.started.replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
  const folder = join(all, `${stamp}-${report.bench}`);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'report.html'), toHtml(report));
  // Last: a report is listed by it.
  await writeFile(join(folder, 'report.json'), JSON.stringify(report));
  const names = (await readdir(all)).sort();
  for (const name of names.slice(0, -KEPT)) await rm(join(all, name), { recursive: true, force: true });
}
