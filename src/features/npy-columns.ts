/**
 * A feature table as a folder of `.npy` files: `id.npy`, and one file per column, all of one length. One dimension is a value
 * per row, two are a list per row. Numbers, booleans and strings (`<U`, `|S`); NaN is null, an empty string too, and in lists
 * both are padding. The files are user input: what a header claims is held against the bytes that are there.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Dictionary, type FeatureColumn } from './feature-column.js';
import { invalidTable, type ParquetColumns } from './parquet-columns.js';

/** Columns of one file are held in memory while they are read. */
const FILE_BYTES_MAX = 2 ** 31 - 1;
const HEADER = /'descr':\s*'([<>|=][A-Za-z]\d+)'.*'fortran_order':\s*(True|False).*'shape':\s*\((\d+),?\s*(\d*)\)/s;

interface Npy {
  /** `f4`, `i8`, `U`, … */
  readonly kind: string;
  readonly itemBytes: number;
  readonly isLittle: boolean;
  readonly rows: number;
  /** Undefined where there is one dimension. */
  readonly width: number | undefined;
  readonly data: DataView;
}

/** `table` is what messages call the folder. Error: BELFRY_FEATURES_INVALID. */
export function readNpyFolder(folder: string, table: string): ParquetColumns {
  const files = readdirSync(folder).filter((file) => file.endsWith('.npy'));
  const columns = files.sort().map((file) => {
    const npy = readNpy(join(folder, file), `${table}/${file}`);
    return { rows: npy.rows, column: columnOf(file.slice(0, -'.npy'.length), npy), file };
  });
  const ids = columns.find(({ column }) => column.name === 'id');
  if (ids === undefined) throw invalidTable(table, 'it has no id.npy; save the ids of the rows there');
  for (const { rows, file } of columns)
    if (rows !== ids.rows)
      throw invalidTable(table, `${file} has ${rows} rows, id.npy has ${ids.rows}; save them again`);
  return { columns: columns.map(({ column }) => column), rows: ids.rows, ignored: [] };
}

function readNpy(path: string, file: string): Npy {
  const { size } = statSync(path);
  if (size > FILE_BYTES_MAX)
    throw invalidTable(file, `it has ${size} bytes; expected at most ${FILE_BYTES_MAX}, use Parquet`);
  const bytes = readFileSync(path);
  if (bytes.toString('latin1', 0, 6) !== '\x93NUMPY') throw invalidTable(file, 'it is no .npy file');
  const isFirst = bytes[6] === 1;
  const start = isFirst ? 10 : 12;
  const length = size < start ? 0 : isFirst ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const header = HEADER.exec(bytes.toString('latin1', start, start + length));
  if (header === null)
    throw invalidTable(
      file,
      'its header is damaged, or of a type that is no feature; save numbers, booleans or strings of one or two dimensions',
    );
  const [, descr, fortran, first, second] = header as unknown as [string, string, string, string, string];
  const width = second === '' ? undefined : Number(second);
  if (fortran === 'True' && width !== undefined && width > 1)
    throw invalidTable(file, 'it is in Fortran order; save np.ascontiguousarray(…)');
  const letter = descr[1]!;
  const unit = Number(descr.slice(2));
  const isText = letter === 'U' || letter === 'S';
  const kind = isText ? letter : `${letter}${unit}`;
  if (!isText && NUMBERS[kind] === undefined)
    throw invalidTable(file, `its type ${descr} is no feature; save numbers, booleans or strings`);
  const itemBytes = letter === 'U' ? unit * 4 : unit;
  const rows = Number(first);
  const expected = rows * (width ?? 1) * itemBytes;
  if (start + length + expected !== size)
    throw invalidTable(
      file,
      `its header says ${expected} bytes of data, there are ${size - start - length}; save it again`,
    );
  const data = new DataView(bytes.buffer, bytes.byteOffset + start + length, expected);
  return { kind, itemBytes, isLittle: descr[0] !== '>', rows, width, data };
}

const NUMBERS: Record<string, (data: DataView, at: number, isLittle: boolean) => number> = {
  f2: (data, at, isLittle) => halfOf(data.getUint16(at, isLittle)),
  f4: (data, at, isLittle) => data.getFloat32(at, isLittle),
  f8: (data, at, isLittle) => data.getFloat64(at, isLittle),
  i1: (data, at) => data.getInt8(at),
  i2: (data, at, isLittle) => data.getInt16(at, isLittle),
  i4: (data, at, isLittle) => data.getInt32(at, isLittle),
  i8: (data, at, isLittle) => Number(data.getBigInt64(at, isLittle)),
  u1: (data, at) => data.getUint8(at),
  u2: (data, at, isLittle) => data.getUint16(at, isLittle),
  u4: (data, at, isLittle) => data.getUint32(at, isLittle),
  u8: (data, at, isLittle) => Number(data.getBigUint64(at, isLittle)),
  b1: (data, at) => data.getUint8(at),
};

function columnOf(name: string, npy: Npy): FeatureColumn {
  const { kind, rows, width, data, itemBytes, isLittle } = npy;
  const count = rows * (width ?? 1);
  if (kind === 'U' || kind === 'S') {
    const dictionary = new Dictionary();
    const codes = Int32Array.from({ length: count }, (_, at) => {
      const text = textAt(npy, at);
      return text === '' ? -1 : dictionary.encode(text);
    });
    if (width === undefined) return { kind: 'string', name, codes, dictionary: dictionary.values };
    const { offsets, kept } = lists(codes, width, (code) => code >= 0);
    return { kind: 'string_list', name, offsets, codes: Int32Array.from(kept), dictionary: dictionary.values };
  }
  const values = Float64Array.from({ length: count }, (_, at) => NUMBERS[kind]!(data, at * itemBytes, isLittle));
  if (width !== undefined) {
    const { offsets, kept } = lists(values, width, (value) => !Number.isNaN(value));
    return { kind: 'number_list', name, offsets, values: Float64Array.from(kept) };
  }
  if (kind === 'b1') return { kind: 'boolean', name, values: Uint8Array.from(values) };
  return { kind: 'number', name, values };
}

/** Rows of a matrix as lists, without their padding. */
function lists(
  cells: ArrayLike<number>,
  width: number,
  isKept: (cell: number) => boolean,
): { offsets: Uint32Array; kept: number[] } {
  const offsets = new Uint32Array(cells.length / Math.max(1, width) + 1);
  const kept: number[] = [];
  for (let row = 0; row + 1 < offsets.length; row++) {
    for (let at = row * width; at < (row + 1) * width; at++) if (isKept(cells[at]!)) kept.push(cells[at]!);
    offsets[row + 1] = kept.length;
  }
  return { offsets, kept };
}

/** NumPy fills strings up with zeros: UTF-32 for `U`, bytes for `S`. */
function textAt({ kind, itemBytes, isLittle, data }: Npy, at: number): string {
  let text = '';
  const end = (at + 1) * itemBytes;
  for (let place = at * itemBytes; place < end; place += kind === 'U' ? 4 : 1) {
    const code = kind === 'U' ? data.getUint32(place, isLittle) : data.getUint8(place);
    if (code === 0) break;
    text += code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd';
  }
  return text;
}

function halfOf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
