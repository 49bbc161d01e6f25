/** Checks against a schema as compiled code: read value by value, a schema takes tens of milliseconds for a file of some thousand numbers. */
import type { Static, TSchema } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';

// Compiled at first use: a command that reads no such file does not wait for it.
const compiled = new WeakMap<TSchema, Validator>();

export function conforms<Schema extends TSchema>(schema: Schema, value: unknown): value is Static<Schema> {
  const validator = compiled.get(schema) ?? (Compile(schema) as unknown as Validator);
  compiled.set(schema, validator);
  return validator.Check(value);
}
