/**
 * Cuts out of an ONNX graph the part that one output needs. So a combined two_tower.onnx serves as the user tower, and
 * nobody has to invent item features for a graph that wants them.
 */
import { BelfryError } from '../errors.js';
import {
  externalTensors,
  modelInvalid,
  type OnnxGraph,
  type OnnxModelFile,
  type OnnxNode,
  type OnnxTensor,
  readOnnx,
} from './onnx-graph.js';
import { concatBytes, delimitedParts, fieldsOf, varintBytes } from './protobuf-wire.js';

export interface ChosenOutput {
  readonly name: string;
  /** Graph inputs that the output depends on, in declared order. */
  readonly inputs: readonly string[];
  /** Whether the graph computes nothing else: then there is nothing to cut. */
  readonly isWholeGraph: boolean;
}

/** Bytes of a tensor that lies in another file; the caller has checked that the file may be read. */
export type ReadExternal = (tensor: OnnxTensor) => Uint8Array;

interface Reach {
  readonly names: ReadonlySet<string>;
  readonly nodes: ReadonlySet<OnnxNode>;
}

/** Names that a node reads, with those that the bodies of If, Loop and Scan capture from outside. */
function* namesReadBy(node: OnnxNode): Generator<string> {
  yield* node.inputs;
  for (const body of node.subgraphs) {
    for (const inner of body.nodes) yield* namesReadBy(inner);
    // A branch may hand an outer value straight on. Names local to the body find no producer outside, which is harmless.
    for (const output of body.outputs) yield output.name;
  }
}

function reachBackwards(graph: OnnxGraph, outputName: string): Reach {
  const producer = new Map<string, OnnxNode>();
  for (const node of graph.nodes) for (const output of node.outputs) if (output !== '') producer.set(output, node);
  const names = new Set<string>([outputName]);
  const nodes = new Set<OnnxNode>();
  const open = [outputName];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const node = producer.get(name);
    if (node === undefined || nodes.has(node)) continue;
    nodes.add(node);
    for (const read of namesReadBy(node)) {
      if (names.has(read)) continue;
      names.add(read);
      open.push(read);
    }
  }
  return { names, nodes };
}

/** Inputs that must be fed to compute `outputName`. */
export function inputsFor(graph: OnnxGraph, outputName: string): string[] {
  const { names } = reachBackwards(graph, outputName);
  return graph.inputs.filter((input) => names.has(input.name)).map((input) => input.name);
}

const NAMED_AFTER = { user: /user|query/i, item: /item|candidate|product/i };

/** See findTowerOutput. */
export function findUserOutput(graph: OnnxGraph, modelName: string, declared?: string): ChosenOutput {
  return findTowerOutput(graph, modelName, 'user', declared);
}

/**
 * The output that holds the embedding of a side, user or item: the declared one; else the only one; else the only one named
 * after that side; else the only one that depends on nothing but inputs named after it.
 */
export function findTowerOutput(
  graph: OnnxGraph,
  modelName: string,
  side: 'user' | 'item',
  declared?: string,
): ChosenOutput {
  const outputs = graph.outputs.map((output) => output.name);
  const isOfSide = (name: string): boolean => NAMED_AFTER[side].test(name);
  const listed = (): string =>
    outputs.map((name) => `${name} (from ${inputsFor(graph, name).join(', ') || 'no input'})`).join('; ');
  let chosen: string | undefined;
  if (declared !== undefined) {
    if (!outputs.includes(declared)) {
      throw mismatch(modelName, `output ${declared} is not in the graph, which has: ${listed()}`);
    }
    chosen = declared;
  } else {
    const rules: string[][] = [
      outputs,
      outputs.filter(isOfSide),
      outputs.filter((name) => {
        const inputs = inputsFor(graph, name);
        return inputs.length > 0 && inputs.every(isOfSide);
      }),
    ];
    chosen = rules.find((found) => found.length === 1)?.[0];
    if (chosen === undefined) {
      throw mismatch(
        modelName,
        `cannot tell which output is the ${side} embedding; the graph has: ${listed() || 'none'}; name it as \`output:\` in registry.yaml`,
      );
    }
  }
  const { nodes } = reachBackwards(graph, chosen);
  const inputs = inputsFor(graph, chosen);
  const isWholeGraph =
    outputs.length === 1 && nodes.size === graph.nodes.length && inputs.length === graph.inputs.length;
  return { name: chosen, inputs, isWholeGraph };
}

function mismatch(modelName: string, reason: string): BelfryError {
  return new BelfryError('BELFRY_BINDING_MISMATCH', `model ${modelName}: ${reason}`, { field: modelName });
}

/**
 * The model reduced to `outputName`: nodes, initialisers, inputs and value types that it needs; opsets, functions and
 * metadata unchanged. Tensors that lie in other files are pulled in by `readExternal`, because a model loaded from
 * bytes has no folder.
 */
export function extractSubgraph(
  bytes: Uint8Array,
  outputName: string,
  modelName = 'onnx',
  readExternal?: ReadExternal,
): Uint8Array {
  return cut(readOnnx(bytes, modelName), outputName, modelName, readExternal);
}

function cut(model: OnnxModelFile, outputName: string, modelName: string, readExternal?: ReadExternal): Uint8Array {
  const { graph } = model;
  const output = graph.outputs.find((candidate) => candidate.name === outputName);
  if (output === undefined) throw mismatch(modelName, `output ${outputName} is not in the graph`);
  const { names, nodes } = reachBackwards(graph, outputName);
  const kept = graph.nodes.filter((node) => nodes.has(node));
  const produced = new Set(kept.flatMap((node) => node.outputs));
  for (const node of kept) {
    if (
      node.tensors.some((tensor) => tensor.external !== null) ||
      node.subgraphs.some((body) => externalTensors(body).length > 0)
    ) {
      throw modelInvalid(
        modelName,
        `a ${node.opType} node holds external data inside an attribute, which a cut graph cannot carry`,
      );
    }
  }
  const inline = (tensor: OnnxTensor): Uint8Array => {
    if (tensor.external === null) return tensor.raw;
    if (readExternal === undefined)
      throw modelInvalid(modelName, `tensor ${tensor.name} lies in ${tensor.external.location}`);
    return inlineTensor(tensor, readExternal(tensor));
  };
  if (graph.sparseInitializers.some((tensor) => names.has(tensor.name) && tensor.external !== null)) {
    throw modelInvalid(modelName, 'a sparse initialiser lies in another file, which a cut graph cannot carry');
  }
  // Field numbers of GraphProto, see onnx-graph.ts. quantization_annotation (14) may name tensors that are gone.
  const graphParts = [
    ...kept.flatMap((node) => delimitedParts(1, [node.raw])),
    ...graph.initializers
      .filter((tensor) => names.has(tensor.name))
      .flatMap((tensor) => delimitedParts(5, [inline(tensor)])),
    ...graph.declaredInputs
      .filter((input) => names.has(input.name))
      .flatMap((input) => delimitedParts(11, [input.raw])),
    ...delimitedParts(12, [output.raw]),
    ...graph.values.filter((value) => produced.has(value.name)).flatMap((value) => delimitedParts(13, [value.raw])),
    ...graph.sparseInitializers
      .filter((tensor) => names.has(tensor.name))
      .flatMap((tensor) => delimitedParts(15, [tensor.raw])),
    ...graph.rest.filter((field) => field.number !== 14).map((field) => field.raw),
  ];
  // training_info (20) refers to the whole graph.
  const rest = model.rest.filter((field) => field.number !== 20).map((field) => field.raw);
  return concatBytes([...rest, ...delimitedParts(7, graphParts)]);
}

// TensorProto: external_data 13 and data_location 14 make room for raw_data 9.
function inlineTensor(tensor: OnnxTensor, data: Uint8Array): Uint8Array {
  const parts = [...fieldsOf(tensor.raw)]
    .filter((field) => field.number !== 13 && field.number !== 14)
    .map((field) => field.raw);
  return concatBytes([...parts, varintBytes(9 * 8 + 2), varintBytes(data.length), data]);
}
