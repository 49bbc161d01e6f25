/**
 * The wire level of Protocol Buffers (protobuf.dev/programming-guides/encoding): enough to walk and rebuild an ONNX
 * file without a schema compiler. Every length is checked against its enclosing message and every step moves forward,
 * so hostile bytes end in WireError, never in a hang or a read out of bounds.
 */
export class WireError extends Error {}

export interface WireField {
  readonly number: number;
  readonly wireType: 0 | 1 | 2 | 5;
  /** Varint and fixed fields; 0 for length-delimited ones. Int64 beyond 2^53 loses low bits: no field that we read has such. */
  readonly value: number;
  /** The payload of a length-delimited field; empty for the rest. */
  readonly bytes: Uint8Array;
  /** Tag and payload as they stand in the file, to copy a field unchanged. */
  readonly raw: Uint8Array;
}

const EMPTY = new Uint8Array(0);
const decoder = new TextDecoder('utf-8');
const encoder = new TextEncoder();

export function* fieldsOf(message: Uint8Array): Generator<WireField> {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  let at = 0;

  // Ten bytes hold 64 bits; negative int64 (a dynamic dim of -1) come as their two's complement.
  const varint = (): number => {
    let low = 0;
    let high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= message.length) throw new WireError(`a varint runs past the end at offset ${at}`);
      const byte = message[at++]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high |= bits >> 4;
      } else high |= bits << (shift - 32);
      if ((byte & 0x80) === 0) return (high | 0) * 4294967296 + (low >>> 0);
    }
    throw new WireError(`a varint is longer than 10 bytes at offset ${at}`);
  };

  while (at < message.length) {
    const start = at;
    const tag = varint();
    const number = Math.floor(tag / 8);
    const wireType = tag & 7;
    if (tag < 0 || number < 1 || number > 536870911) throw new WireError(`field number ${number} at offset ${start}`);
    let value = 0;
    let bytes: Uint8Array = EMPTY;
    if (wireType === 0) value = varint();
    else if (wireType === 1 || wireType === 5) {
      const width = wireType === 1 ? 8 : 4;
      if (at + width > message.length) throw new WireError(`field ${number} runs past the end at offset ${start}`);
      value = width === 8 ? view.getFloat64(at, true) : view.getFloat32(at, true);
      at += width;
    } else if (wireType === 2) {
      const length = varint();
      if (length < 0 || length > message.length - at) {
        throw new WireError(`field ${number} of ${length} bytes runs past the end at offset ${start}`);
      }
      bytes = message.subarray(at, at + length);
      at += length;
    } else throw new WireError(`wire type ${wireType} of field ${number} at offset ${start}`);
    yield { number, wireType, value, bytes, raw: message.subarray(start, at) };
  }
}

export function textOf(field: WireField): string {
  return decoder.decode(field.bytes);
}

/** A repeated integer field: packed into one payload, or one varint per occurrence. */
export function integersOf(field: WireField): number[] {
  if (field.wireType === 0) return [field.value];
  const out: number[] = [];
  // A packed payload is a row of varints; wrapping each as a field would need tags, so they are read here.
  let value = 0;
  let scale = 1;
  for (const byte of field.bytes) {
    value += (byte & 0x7f) * scale;
    if (byte & 0x80) scale *= 128;
    else {
      out.push(value >= 2 ** 63 ? value - 2 ** 64 : value);
      value = 0;
      scale = 1;
    }
  }
  if (scale !== 1) throw new WireError(`a packed field ${field.number} ends inside a varint`);
  return out;
}

export function varintBytes(value: number): Uint8Array {
  const out: number[] = [];
  let rest = value;
  while (rest >= 128) {
    out.push((rest % 128) | 0x80);
    rest = Math.floor(rest / 128);
  }
  out.push(rest);
  return Uint8Array.from(out);
}

/** Tag, length and payload of one length-delimited field. */
export function lengthDelimited(number: number, payload: Uint8Array | string): Uint8Array {
  const bytes = typeof payload === 'string' ? encoder.encode(payload) : payload;
  return concatBytes(delimitedParts(number, [bytes]));
}

/** The same, of a payload in parts, as parts: what is large is copied once, when all is put together. */
export function delimitedParts(number: number, payload: readonly Uint8Array[]): Uint8Array[] {
  const length = payload.reduce((sum, part) => sum + part.length, 0);
  return [varintBytes(number * 8 + 2), varintBytes(length), ...payload];
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
