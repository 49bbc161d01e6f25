/** Which item columns a table shows before anyone has chosen. */
import type { Info } from './contract.js';

const TELLING = [/^(title|label|display_name)$/, /^(section|category|genre|type|kind|class|brand)s?$/];
const NUMBERS = [/^(popularity|rating|count|views|sales)$/, /(price|year|size)/];

/** Two or three: a text that names the thing, a text that groups it, one number that tells them apart. */
export function defaultColumns(info: Info): string[] {
  const texts = info.item_columns.filter(({ kind }) => kind === 'string').map(({ name }) => name);
  const numbers = info.item_columns.filter(({ kind }) => kind === 'number').map(({ name }) => name);
  const chosen = TELLING.flatMap((pattern) => texts.find((name) => pattern.test(name)) ?? []);
  if (chosen.length === 0) chosen.push(...texts.slice(0, 2));
  const number = NUMBERS.map((pattern) => numbers.find((name) => pattern.test(name))).find(Boolean) ?? numbers[0];
  return number === undefined ? chosen : [...chosen, number];
}
