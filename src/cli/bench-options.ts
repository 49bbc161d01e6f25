/** Checks of numbers on the command line that the bench commands share. */
import { invalid } from '../errors.js';

export type NumberRule = readonly [option: string, value: number, min: number, max: number, isWhole: boolean];

/** Error: BELFRY_INVALID_ARGUMENT naming the option and its bounds. */
export function checkNumbers(rules: readonly NumberRule[]): void {
  for (const [option, value, min, max, isWhole] of rules) {
    if (!(value >= min && value <= max) || (isWhole && !Number.isInteger(value)))
      throw invalid(option, `${isWhole ? 'a whole number' : 'a number'} from ${min} to ${max}`, value, {
        field: option,
        limit: value < min ? min : max,
      });
  }
}

/** `1,10,100` → numbers. Error: BELFRY_INVALID_ARGUMENT. */
export function listOf(option: string, text: string, min: number, max: number, isWhole: boolean): number[] {
  return text.split(',').map((one) => {
    const value = one.trim() === '' ? Number.NaN : Number(one);
    if (!(value >= min && value <= max) || (isWhole && !Number.isInteger(value)))
      throw invalid(
        option,
        `${isWhole ? 'whole numbers' : 'numbers'} from ${min} to ${max}, with commas between`,
        text,
        {
          field: option,
          limit: max,
        },
      );
    return value;
  });
}
