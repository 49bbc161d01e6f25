/**
 * Reads the structure of an ONNX file: inputs, outputs, operators, initialisers, subgraphs. Field numbers are those of
 * onnx/onnx.proto (github.com/onnx/onnx). Tensor contents are never decoded, only their byte ranges are kept.
 */
import { BelfryError } from '../errors.js';
import type { TensorDtype, TensorSpec } from '../types.js';
import { fieldsOf, integersOf, textOf, WireError, type WireField } from './protobuf-wire.js';

/** TensorProto.DataType. What is not listed (complex, bfloat16, float8, 4-bit) is `other`: Belfry can run it inside a graph only. */
const DTYPES: Readonly<Record<number, { dtype: TensorDtype; bytes: number }>> = {
  1: { dtype: 'float32', bytes: 4 },
  2: { dtype: 'uint8', bytes: 1 },
  3: { dtype: 'int8', bytes: 1 },
  4: { dtype: 'uint16', bytes: 2 },
  5: { dtype: 'int16', bytes: 2 },
  6: { dtype: 'int32', bytes: 4 },
  7: { dtype: 'int64', bytes: 8 },
  8: { dtype: 'string', bytes: 0 },
  9: { dtype: 'bool', bytes: 1 },
  10: { dtype: 'float16', bytes: 2 },
  11: { dtype: 'float64', bytes: 8 },
  12: { dtype: 'uint32', bytes: 4 },
  13: { dtype: 'uint64', bytes: 8 },
};

/** Loop in Loop in If is real; deeper than this is a bomb. */
const SUBGRAPH_DEPTH_MAX = 32;

export interface ExternalData {
  readonly location: string;
  readonly offset: number;
  readonly length: number | null;
}

export interface OnnxTensor {
  readonly name: string;
  readonly dtype: TensorDtype | 'other';
  readonly dims: readonly number[];
  readonly elements: number;
  readonly dataBytes: number;
  readonly external: ExternalData | null;
  readonly raw: Uint8Array;
}

export interface OnnxNode {
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Bodies of If, Loop, Scan: they may capture names of the graphs around them. */
  readonly subgraphs: readonly OnnxGraph[];
  readonly tensors: readonly OnnxTensor[];
  readonly raw: Uint8Array;
}

export interface OnnxValue extends TensorSpec {
  readonly raw: Uint8Array;
}

export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxTensor[];
  readonly sparseInitializers: readonly OnnxTensor[];
  /** As declared; before IR version 4 the initialisers stand here too. */
  readonly declaredInputs: readonly OnnxValue[];
  /** What a caller must feed: declared inputs that are not initialisers. */
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly values: readonly OnnxValue[];
  /** GraphProto fields that we do not interpret (name, documentation, metadata, quantisation), to copy them. */
  readonly rest: readonly WireField[];
}

export interface OnnxModelFile {
  readonly irVersion: number;
  readonly producer: string;
  readonly opsets: readonly { domain: string; version: number }[];
  readonly graph: OnnxGraph;
  /** ModelProto fields other than the graph, to copy them. */
  readonly rest: readonly WireField[];
}

export interface OnnxSummary {
  readonly irVersion: number;
  readonly producer: string;
  readonly opsets: readonly { domain: string; version: number }[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly nodes: number;
  readonly ops: Readonly<Record<string, number>>;
  readonly parameters: number;
  readonly parameterBytes: number;
  readonly externalFiles: readonly string[];
}

/** Parses `bytes`; `name` is what messages call the model. Anything malformed is BELFRY_MODEL_INVALID. */
export function readOnnx(bytes: Uint8Array, name: string): OnnxModelFile {
  if (bytes.length === 0) throw modelInvalid(name, 'the file is empty');
  try {
    return readModel(bytes, name);
  } catch (error) {
    if (error instanceof WireError) throw modelInvalid(name, `not a well-formed ONNX file: ${error.message}`, error);
    throw error;
  }
}

export function modelInvalid(name: string, reason: string, cause?: unknown): BelfryError {
  return new BelfryError('BELFRY_MODEL_INVALID', `model ${name}: ${reason}; export or copy it again`, {
    field: name,
    ...(cause === undefined ? {} : { cause }),
  });
}

export function summarize(model: OnnxModelFile): OnnxSummary {
  const ops: Record<string, number> = {};
  const tensors: OnnxTensor[] = [];
  let nodes = 0;
  const visit = (graph: OnnxGraph): void => {
    tensors.push(...graph.initializers, ...graph.sparseInitializers);
    for (const node of graph.nodes) {
      nodes++;
      const key = node.domain === '' ? node.opType : `${node.domain}.${node.opType}`;
      ops[key] = (ops[key] ?? 0) + 1;
      tensors.push(...node.tensors);
      node.subgraphs.forEach(visit);
    }
  };
  visit(model.graph);
  return {
    irVersion: model.irVersion,
    producer: model.producer,
    opsets: model.opsets,
    inputs: model.graph.inputs.map(specOf),
    outputs: model.graph.outputs.map(specOf),
    nodes,
    ops: Object.fromEntries(Object.entries(ops).sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))),
    parameters: tensors.reduce((sum, tensor) => sum + tensor.elements, 0),
    parameterBytes: tensors.reduce((sum, tensor) => sum + tensor.dataBytes, 0),
    externalFiles: [...new Set(externalTensors(model.graph).map((tensor) => tensor.external!.location))],
  };
}

export function specOf({ name, dtype, shape }: TensorSpec): TensorSpec {
  return { name, dtype, shape };
}

/** Every tensor, at any depth, whose bytes are in another file. */
export function externalTensors(graph: OnnxGraph): OnnxTensor[] {
  const found = [...graph.initializers, ...graph.sparseInitializers].filter((tensor) => tensor.external !== null);
  for (const node of graph.nodes) {
    found.push(...node.tensors.filter((tensor) => tensor.external !== null));
    for (const body of node.subgraphs) found.push(...externalTensors(body));
  }
  return found;
}

// ModelProto: ir_version 1, producer_name 2, producer_version 3, graph 7, opset_import 8, functions 25.
function readModel(bytes: Uint8Array, name: string): OnnxModelFile {
  let irVersion = 0;
  const producer: string[] = [];
  const opsets: { domain: string; version: number }[] = [];
  const rest: WireField[] = [];
  let graph: OnnxGraph | undefined;
  for (const field of fieldsOf(bytes)) {
    if (field.number === 7) {
      if (graph !== undefined) throw new WireError('it holds two graphs');
      graph = readGraph(payload(field), 0);
      continue;
    }
    if (field.number === 1) irVersion = field.value;
    if (field.number === 2 || field.number === 3) producer.push(textOf(field));
    if (field.number === 8) opsets.push(readOpset(payload(field)));
    rest.push(field);
  }
  if (graph === undefined || irVersion < 1 || irVersion > 1000) {
    throw modelInvalid(name, 'it is not an ONNX file: it holds no graph or no IR version');
  }
  return { irVersion, producer: producer.join(' '), opsets, graph, rest };
}

function payload(field: WireField): Uint8Array {
  if (field.wireType !== 2) throw new WireError(`field ${field.number} should be a message`);
  return field.bytes;
}

// OperatorSetIdProto: domain 1, version 2.
function readOpset(bytes: Uint8Array): { domain: string; version: number } {
  let domain = '';
  let version = 0;
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) domain = textOf(field);
    if (field.number === 2) version = field.value;
  }
  return { domain, version };
}

// GraphProto: node 1, initializer 5, input 11, output 12, value_info 13, sparse_initializer 15.
function readGraph(bytes: Uint8Array, depth: number): OnnxGraph {
  if (depth > SUBGRAPH_DEPTH_MAX) throw new WireError(`subgraphs are nested deeper than ${SUBGRAPH_DEPTH_MAX}`);
  const nodes: OnnxNode[] = [];
  const initializers: OnnxTensor[] = [];
  const sparseInitializers: OnnxTensor[] = [];
  const declaredInputs: OnnxValue[] = [];
  const outputs: OnnxValue[] = [];
  const values: OnnxValue[] = [];
  const rest: WireField[] = [];
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) nodes.push(readNode(payload(field), depth));
    else if (field.number === 5) initializers.push(readTensor(payload(field)));
    else if (field.number === 11) declaredInputs.push(readValue(payload(field)));
    else if (field.number === 12) outputs.push(readValue(payload(field)));
    else if (field.number === 13) values.push(readValue(payload(field)));
    else if (field.number === 15) sparseInitializers.push(readSparseTensor(payload(field)));
    else rest.push(field);
  }
  const constants = new Set([...initializers, ...sparseInitializers].map((tensor) => tensor.name));
  const inputs = declaredInputs.filter((input) => !constants.has(input.name));
  return { nodes, initializers, sparseInitializers, declaredInputs, inputs, outputs, values, rest };
}

// NodeProto: input 1, output 2, op_type 4, attribute 5, domain 7.
function readNode(bytes: Uint8Array, depth: number): OnnxNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const subgraphs: OnnxGraph[] = [];
  const tensors: OnnxTensor[] = [];
  let opType = '';
  let domain = '';
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) inputs.push(textOf(field));
    else if (field.number === 2) outputs.push(textOf(field));
    else if (field.number === 4) opType = textOf(field);
    else if (field.number === 7) domain = textOf(field);
    else if (field.number === 5) readAttribute(payload(field), depth, subgraphs, tensors);
  }
  return { opType, domain, inputs, outputs, subgraphs, tensors, raw: bytes };
}

// AttributeProto: t 5, g 6, tensors 10, graphs 11.
function readAttribute(bytes: Uint8Array, depth: number, subgraphs: OnnxGraph[], tensors: OnnxTensor[]): void {
  for (const field of fieldsOf(bytes)) {
    if (field.number === 6 || field.number === 11) subgraphs.push(readGraph(payload(field), depth + 1));
    if (field.number === 5 || field.number === 10) tensors.push(readTensor(payload(field)));
  }
}

// TensorProto: dims 1, data_type 2, name 8, external_data 13, data_location 14 (1 = external).
function readTensor(bytes: Uint8Array): OnnxTensor {
  const dims: number[] = [];
  const entries = new Map<string, string>();
  let type = 0;
  let name = '';
  let isExternal = false;
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) dims.push(...integersOf(field));
    else if (field.number === 2) type = field.value;
    else if (field.number === 8) name = textOf(field);
    else if (field.number === 13) readEntry(payload(field), entries);
    else if (field.number === 14) isExternal = field.value === 1;
  }
  if (dims.some((dim) => dim < 0)) throw new WireError(`tensor ${name} has a negative dim`);
  const elements = dims.reduce((product, dim) => product * dim, 1);
  if (!Number.isSafeInteger(elements)) throw new WireError(`tensor ${name} has more than 2^53 elements`);
  const known = DTYPES[type];
  const external = isExternal ? readExternal(entries) : null;
  return {
    name,
    dtype: known?.dtype ?? 'other',
    dims,
    elements,
    dataBytes: elements * (known?.bytes ?? 0),
    external,
    raw: bytes,
  };
}

function readExternal(entries: ReadonlyMap<string, string>): ExternalData {
  const offset = Number(entries.get('offset') ?? '0');
  const length = entries.has('length') ? Number(entries.get('length')) : null;
  if (
    !Number.isSafeInteger(offset) ||
    offset < 0 ||
    (length !== null && (!Number.isSafeInteger(length) || length < 0))
  ) {
    throw new WireError('external data has an offset or length that is not a whole number');
  }
  return { location: entries.get('location') ?? '', offset, length };
}

// StringStringEntryProto: key 1, value 2.
function readEntry(bytes: Uint8Array, entries: Map<string, string>): void {
  let key = '';
  let value = '';
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) key = textOf(field);
    if (field.number === 2) value = textOf(field);
  }
  entries.set(key, value);
}

// SparseTensorProto: values 1, indices 2. Its name is the name of its values.
function readSparseTensor(bytes: Uint8Array): OnnxTensor {
  let values: OnnxTensor | undefined;
  for (const field of fieldsOf(bytes)) if (field.number === 1) values = readTensor(payload(field));
  if (values === undefined) throw new WireError('a sparse tensor holds no values');
  return { ...values, raw: bytes };
}

// ValueInfoProto: name 1, type 2. TypeProto: tensor_type 1 { elem_type 1, shape 2 { dim 1 { dim_value 1 } } }.
function readValue(bytes: Uint8Array): OnnxValue {
  let name = '';
  let dtype: TensorDtype | 'other' = 'other';
  let shape: (number | null)[] | null = null;
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) name = textOf(field);
    if (field.number !== 2) continue;
    for (const type of fieldsOf(payload(field))) {
      if (type.number !== 1) continue;
      for (const part of fieldsOf(payload(type))) {
        if (part.number === 1) dtype = DTYPES[part.value]?.dtype ?? 'other';
        if (part.number === 2) shape = readShape(payload(part));
      }
    }
  }
  return { name, dtype, shape, raw: bytes };
}

function readShape(bytes: Uint8Array): (number | null)[] {
  const shape: (number | null)[] = [];
  for (const field of fieldsOf(bytes)) {
    if (field.number !== 1) continue;
    let size: number | null = null;
    // Some exporters write a dynamic dim as -1 instead of leaving dim_value out.
    for (const dim of fieldsOf(payload(field))) if (dim.number === 1 && dim.value >= 0) size = dim.value;
    shape.push(size);
  }
  return shape;
}
