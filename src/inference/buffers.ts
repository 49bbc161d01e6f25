import type { TensorData } from '../types.js';

/** The memory of tensors, each buffer once: several may share one. */
export function buffersOf(tensors: Readonly<Record<string, TensorData>>): ArrayBuffer[] {
  const views = Object.values(tensors).map(({ data }) => data);
  return [...new Set(views.flatMap((data) => (ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : [])))];
}
