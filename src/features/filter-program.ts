/**
 * A filter as plain data, for the native evaluation: steps that each push the bitmap of a test on a stack, or join the
 * two on top into one. One bitmap is left at the end. The other side is native/filter/filter_program.hpp.
 */

/** Numbers of the operations, with what their `column`, `first` and `count` mean. */
export const FILTER_OPS = {
  /** Every row. */
  all: 0,
  /** The rows codes[first .. first + count). */
  rows: 1,
  /** Rows with a value in the column. */
  present: 2,
  /** Of a column of booleans. */
  isTrue: 3,
  isFalse: 4,
  /** Of a column of strings: one of the words codes[first .. first + count). */
  anyWord: 5,
  /** All of them; count is at least 1. */
  everyWord: 6,
  /** Of a column of numbers: between numbers[first] and numbers[first + 1]; count is a sum of OPEN_BELOW, OPEN_ABOVE. */
  inRange: 7,
  /** One of numbers[first .. first + count). */
  anyNumber: 8,
  /** Of a column of lists of numbers: all of them. */
  everyNumber: 9,
  /** Both of the two on top, one of them, the lower one and not the upper one. */
  and: 10,
  or: 11,
  andNot: 12,
} as const;
export type FilterOp = keyof typeof FILTER_OPS;

export const OPEN_BELOW = 1;
export const OPEN_ABOVE = 2;

export interface FilterProgram {
  /** Names of the columns that the steps number. */
  readonly columns: readonly string[];
  /** Four numbers a step: operation, column, first, count. */
  readonly steps: Uint32Array;
  readonly codes: Uint32Array;
  readonly numbers: Float64Array;
}

/** Codes and numbers go to typed arrays at once: a hostile filter holds hundreds of thousands of them. */
export class ProgramWriter {
  private readonly columns: string[] = [];
  private readonly steps: number[] = [];
  private codes = new Uint32Array(64);
  private codeCount = 0;
  private numbers = new Float64Array(64);
  private numberCount = 0;

  addCode(code: number): void {
    if (this.codeCount === this.codes.length) {
      const codes = new Uint32Array(this.codes.length * 2);
      codes.set(this.codes);
      this.codes = codes;
    }
    this.codes[this.codeCount++] = code;
  }

  addNumber(value: number): void {
    if (this.numberCount === this.numbers.length) {
      const numbers = new Float64Array(this.numbers.length * 2);
      numbers.set(this.numbers);
      this.numbers = numbers;
    }
    this.numbers[this.numberCount++] = value;
  }

  /** Where the next code or number will stand: the `first` of a step that takes those added from now on. */
  get codesEnd(): number {
    return this.codeCount;
  }
  get numbersEnd(): number {
    return this.numberCount;
  }

  join(op: 'and' | 'or' | 'andNot'): void {
    this.steps.push(FILTER_OPS[op], 0, 0, 0);
  }

  pushAll(): void {
    this.steps.push(FILTER_OPS.all, 0, 0, 0);
  }

  /** The rows that were added as codes since `first`. */
  pushRows(first: number): void {
    this.steps.push(FILTER_OPS.rows, 0, first, this.codeCount - first);
  }

  pushNone(): void {
    this.pushRows(this.codeCount);
  }

  push(op: FilterOp, column: string, first = 0, count = 0): void {
    let number = this.columns.indexOf(column);
    if (number < 0) number = this.columns.push(column) - 1;
    this.steps.push(FILTER_OPS[op], number, first, count);
  }

  finish(): FilterProgram {
    return {
      columns: this.columns,
      steps: Uint32Array.from(this.steps),
      codes: this.codes.subarray(0, this.codeCount),
      numbers: this.numbers.subarray(0, this.numberCount),
    };
  }
}
