/** The examples of docs/rerank.md and docs/traffic.md are what the code takes, and give what it says. */
import { readFileSync } from 'node:fs';
import { Value } from 'typebox/value';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readModelsFolder } from '../../../src/config/models-folder.js';
import { TrafficSchema } from '../../../src/config/traffic.js';
import { type InputBindings, InputBindingSchema, OutputBindingSchema } from '../../../src/features/binding-schema.js';
import { calibrationOf } from '../../../src/rerank/calibration.js';
import { GoldenSchema } from '../../../src/rerank/golden.js';
import { makeModelsFolder, temporaryFolder } from '../../support/folders.js';
import { expectClose } from '../../support/model-fixtures.js';
import { candidates, openScorer, recorded, request } from '../../support/scorers.js';

function examples(page: string, language: string): string[] {
  const text = readFileSync(new URL(`../../../docs/${page}`, import.meta.url), 'utf8');
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, block]) => block!);
}
const yaml = examples('rerank.md', 'yaml');
const json = examples('rerank.md', 'json').map((block) => JSON.parse(block));

describe('docs/rerank.md', () => {
  const layouts = yaml.filter((block) => block.startsWith('# model: '));

  it.each(layouts)('%s', async (block) => {
    const model = /^# model: (\w+)/.exec(block)![1]!;
    const { inputs } = parse(block) as { inputs: InputBindings };
    expect(Value.Check(InputBindingSchema, inputs)).toBe(true);
    const scorer = await openScorer(model, { inputs });
    const { scores } = await scorer.score(request, candidates);
    await scorer.close();
    expectClose(scores, recorded.outputs[model.replace('_open', '')]!.score!, 1e-4);
  });

  it('has an example of each layout, and of outputs that are valid', () => {
    expect(layouts.length).toBe(4);
    const outputs = yaml.map((block) => parse(block)).filter((one) => one.output !== undefined);
    expect(outputs.length).toBe(2);
    for (const { output } of outputs) expect(Value.Check(OutputBindingSchema, output)).toBe(true);
  });

  it('calibrations and golden requests are valid', () => {
    const calibrations = json.filter((one) => one.kind !== undefined);
    expect(calibrations.map((one) => calibrationOf(one, 'c').kind)).toEqual(['platt', 'temperature', 'isotonic']);
    const golden = json.filter((one) => one.requests !== undefined);
    expect(golden.length).toBe(1);
    expect(Value.Check(GoldenSchema, golden[0])).toBe(true);
  });
});

describe('registries and settings of the docs', () => {
  it('are read', () => {
    const blocks = [...yaml, ...examples('traffic.md', 'yaml')];
    const registries = blocks.filter((block) => block.startsWith('models:'));
    expect(registries.length).toBe(2);
    for (const registry of registries) {
      const paths = (parse(registry) as { models: { path: string }[] }).models.map(({ path }) => path);
      const files = { ...Object.fromEntries(paths.map((path) => [path, ''])), 'registry.yaml': registry };
      const folder = makeModelsFolder(temporaryFolder(), { items: { data: new Float32Array(2), dims: 2 }, files });
      expect(readModelsFolder(folder).models.map(({ path }) => path)).toEqual(paths);
    }
    const settings = blocks.filter((block) => block.startsWith('traffic:'));
    expect(settings.length).toBe(1);
    expect(Value.Check(TrafficSchema, parse(settings[0]!).traffic)).toBe(true);
  });
});
