/** The files of an export's items with changes in them: vectors, ids and the item table, each written anew and renamed. */
import { createHash } from 'node:crypto';
import { extname, join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { loadAddon } from '../ann/addon.js';
import { rowsPerCall } from '../ann/read-rows.js';
import type { IdMap } from '../ann/ids.js';
import { FeatureTable } from '../features/feature-table.js';
import { type FileFacts, renameFile, WrittenFile, writeDurable } from '../generation/files.js';
import type { ImportedSection } from '../generation/upsert-source.js';
import type { Features, FeatureValue, Id, Row } from '../types.js';

export interface ChangedVectors {
  readonly replaced: ReadonlyMap<Row, Float32Array>;
  /** Rows that become zeros and are left out. */
  readonly left: ReadonlySet<Row>;
  /** Rows after those of the export. */
  readonly added: readonly Float32Array[];
  /** Rows that the import left out, and that are there now. */
  readonly skipped: ReadonlySet<Row>;
}

/** Writes `.npy` with the changes; resolves to its new description and facts. */
export async function mergeVectors(
  into: string,
  section: ImportedSection,
  { replaced, left, added, skipped }: ChangedVectors,
): Promise<{ section: ImportedSection; facts: FileFacts }> {
  const { dims, dtype } = section;
  const path = join(into, section.file);
  const matrix = await loadAddon().openMatrix(path);
  const output = await HashedFile.open(`${path}.merged`);
  const skippedRows = [...new Set([...skipped, ...left])].sort((a, b) => a - b);
  const profile = new NormProfile(dims, new Set(skippedRows));
  try {
    const count = matrix.rows + added.length;
    await output.write(npyHeader(dtype === 'f2' ? '<f2' : '<f4', `(${count}, ${dims})`));
    const step = Math.max(1, Math.floor(rowsPerCall(dims) / 4));
    for (let start = 0; start < matrix.rows; start += step) {
      const rows = Uint32Array.from({ length: Math.min(step, matrix.rows - start) }, (_, i) => start + i);
      const values = matrix.readRows(rows);
      for (const row of rows) {
        const vector = replaced.get(row);
        if (vector !== undefined) values.set(vector, (row - start) * dims);
        else if (left.has(row)) values.fill(0, (row - start) * dims, (row - start + 1) * dims);
      }
      await output.write(encode(values, dtype));
      profile.add(values);
    }
    for (const vector of added) {
      await output.write(encode(vector, dtype));
      profile.add(vector);
    }
    const facts = await output.publish(path);
    return { section: { ...section, count, skippedRows, ...profile.result() }, facts };
  } finally {
    matrix.close();
    await output.close();
  }
}

/** Ids of the export and after them those of added items; resolves to the file's name, which row numbers get now. */
export async function mergeIds(
  into: string,
  file: string | undefined,
  ids: IdMap,
  added: readonly Id[],
): Promise<{ file: string; facts: FileFacts }> {
  const all = [...ids.all(), ...added];
  const name = file ?? 'embeddings/item_ids.npy';
  if (extname(name) === '.txt') return { file: name, facts: await replace(join(into, name), `${all.join('\n')}\n`) };
  const values = BigInt64Array.from(all as number[], BigInt);
  const bytes = Buffer.concat([npyHeader('<i8', `(${all.length},)`), new Uint8Array(values.buffer)]);
  return { file: name, facts: await replace(join(into, name), bytes) };
}

/** The item table with rows for `put`, in place of those that it has for them, and without those of `gone`. */
export async function mergeTable(
  into: string,
  file: string,
  put: ReadonlyMap<Id, Features>,
  gone: ReadonlySet<Id>,
): Promise<FileFacts> {
  const table = await FeatureTable.open(join(into, file), { name: file });
  const kept = Array.from(table.ids.keys()).filter((row) => !put.has(table.ids[row]!) && !gone.has(table.ids[row]!));
  const ids: Id[] = [...kept.map((row) => table.ids[row]!), ...put.keys()];
  const valuesOf = (name: string): FeatureValue[] => [
    ...kept.map((row) => table.valueAt(row, name)),
    ...Array.from(put.values(), (metadata) => (Object.hasOwn(metadata, name) ? metadata[name]! : null)),
  ];
  const isNumeric = ids.every((id) => typeof id === 'number');
  const columns = table.columns.map(({ name, kind }) => ({ name, ...WRITTEN[kind], data: valuesOf(name) }));
  const schema = [{ name: 'id', ...(isNumeric ? NUMBER : STRING) }, ...columns].flatMap(({ name, leaf, isList }) =>
    isList ? listSchema(name, leaf) : [{ name, repetition_type: 'OPTIONAL' as const, ...leaf }],
  );
  const bytes = parquetWriteBuffer({
    schema: [{ name: 'root', num_children: columns.length + 1 }, ...schema],
    columnData: [{ name: 'id', data: ids }, ...columns.map(({ name, data }) => ({ name, data: data as unknown[] }))],
  });
  return replace(join(into, file), new Uint8Array(bytes));
}

const NUMBER = { leaf: { type: 'DOUBLE' }, isList: false } as const;
const STRING = { leaf: { type: 'BYTE_ARRAY', converted_type: 'UTF8' }, isList: false } as const;
const WRITTEN = {
  number: NUMBER,
  boolean: { leaf: { type: 'BOOLEAN' }, isList: false },
  string: STRING,
  string_list: { ...STRING, isList: true },
  number_list: { ...NUMBER, isList: true },
} as const;

function listSchema(name: string, leaf: (typeof WRITTEN)[keyof typeof WRITTEN]['leaf']) {
  return [
    { name, repetition_type: 'OPTIONAL' as const, num_children: 1, converted_type: 'LIST' as const },
    { name: 'list', repetition_type: 'REPEATED' as const, num_children: 1 },
    { name: 'element', repetition_type: 'OPTIONAL' as const, ...leaf },
  ];
}

async function replace(path: string, content: string | Uint8Array): Promise<FileFacts> {
  const facts = await writeDurable(`${path}.merged`, content, 'copy');
  await renameFile(`${path}.merged`, path, 'copy');
  return facts;
}

class HashedFile {
  private readonly hash = createHash('sha256');
  private bytes = 0;
  private isOpen = true;

  private constructor(
    private readonly file: WrittenFile,
    private readonly path: string,
  ) {}

  static async open(path: string): Promise<HashedFile> {
    return new HashedFile(await WrittenFile.open(path, 'w', 'vectors'), path);
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.file.write(bytes);
    this.hash.update(bytes);
    this.bytes += bytes.length;
  }

  async publish(path: string): Promise<FileFacts> {
    await this.file.sync();
    await this.close();
    await renameFile(this.path, path, 'vectors');
    return { bytes: this.bytes, sha256: this.hash.digest('hex') };
  }

  async close(): Promise<void> {
    if (this.isOpen) await this.file.close();
    this.isOpen = false;
  }
}

/** Norms of the rows that are there. */
class NormProfile {
  private rows = 0;
  private counted = 0;
  private zeros = 0;
  private sum = 0;
  private min = Number.POSITIVE_INFINITY;
  private max = 0;

  constructor(
    private readonly dims: number,
    private readonly skipped: ReadonlySet<Row>,
  ) {}

  add(values: Float32Array): void {
    for (let start = 0; start < values.length; start += this.dims, this.rows++) {
      if (this.skipped.has(this.rows)) continue;
      let squares = 0;
      for (let i = start; i < start + this.dims; i++) squares += values[i]! ** 2;
      const norm = Math.sqrt(squares);
      this.counted++;
      this.sum += norm;
      this.min = Math.min(this.min, norm);
      this.max = Math.max(this.max, norm);
      if (norm === 0) this.zeros++;
    }
  }

  result(): Pick<ImportedSection, 'norms' | 'zeroVectors'> {
    const { counted, sum, min, max, zeros } = this;
    return {
      norms: counted === 0 ? { min: 0, mean: 0, max: 0 } : { min, mean: sum / counted, max },
      zeroVectors: zeros,
    };
  }
}

function encode(values: Float32Array, dtype: ImportedSection['dtype']): Uint8Array {
  if (dtype === 'f4') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return new Uint8Array(Uint16Array.from(values, halfOf).buffer);
}

const FLOAT = new Float32Array(1);
const BITS = new Uint32Array(FLOAT.buffer);

/** Bits of the nearest float16, ties to even; values beyond 65504 were refused before. */
function halfOf(value: number): number {
  FLOAT[0] = value;
  const bits = BITS[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = Math.abs(value);
  // Below 2^-14 halves are multiples of 2^-24; above, a float's significand loses its last 13 bits.
  if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24);
  const rest = (bits & 0x7fffffff) - (112 << 23);
  return sign | ((rest + 0xfff + ((rest >>> 13) & 1)) >>> 13);
}

function roundEven(value: number): number {
  const floor = Math.floor(value);
  const part = value - floor;
  return part > 0.5 || (part === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** Version 1.0, data on a multiple of 64 bytes, as NumPy writes it. */
function npyHeader(descr: string, shape: string): Buffer {
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  const size = Math.ceil((10 + text.length + 1) / 64) * 64;
  const out = Buffer.alloc(size, ' ');
  out.write('\x93NUMPY\x01\x00', 'latin1');
  out.writeUInt16LE(size - 10, 8);
  out.write(text, 10, 'latin1');
  out[size - 1] = 10;
  return out;
}
