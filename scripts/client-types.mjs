#!/usr/bin/env node
// Writes src/client/api.ts, the types of the HTTP API, from the OpenAPI document of the built service.
//   (nothing)   writes the file; run `npm run build` before it
// A test holds the file against the document of the sources.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './steps.mjs';

const LINE = 110;
const PAGES = /^\/($|docs|console|openapi)/;

/** Every named thing of the document: bodies, parameters of the query, answers; one text for one structure. */
export function clientTypes(document) {
  const named = new Map(); // structure → name
  const sections = [];
  const declare = (name, schema) => {
    const structure = structureOf(schema);
    if (named.has(structure)) return named.get(structure);
    const text = `export type ${name} = ${typeOf(schema, '', named)};`;
    named.set(structure, name);
    sections.push(schema.description === undefined ? text : `${comment(schema.description, '')}${text}`);
    return name;
  };
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      path,
      method,
      operation,
      alone: Object.keys(methods).length === 1,
    })),
  );
  const bodies = [];
  const operations = [];
  for (const { path, method, operation, alone } of routes) {
    if (PAGES.test(path)) continue;
    const name = nameOf(path, alone ? '' : method);
    const body = operation.requestBody?.content?.['application/json']?.schema;
    const answers = Object.entries(operation.responses ?? {}).map(([status, { content }]) => [
      status,
      content?.['application/json']?.schema,
    ]);
    bodies.push({ name, body, answers, key: `${method.toUpperCase()} ${path}` });
  }
  // Errors first, and requests that stand alone before the ones that hold many of them.
  for (const { answers } of bodies) {
    const error = answers.find(([status]) => status === 'default')?.[1];
    if (error !== undefined) declare('ErrorAnswer', error);
  }
  for (const { name, body, answers, key } of bodies) {
    const success = answers.find(([status, schema]) => /^2/.test(status) && schema?.type === 'object')?.[1];
    const own = body === undefined ? 'undefined' : declare(`${name}Body`, body);
    const answer = success === undefined ? 'unknown' : declare(`${name}Answer`, success);
    operations.push(`  '${key}': { body: ${own}; answer: ${answer} };`);
  }
  return [
    '/** The types of the HTTP API, from its OpenAPI document: written by scripts/client-types.mjs, not by hand. */',
    '',
    sections.join('\n\n'),
    '',
    '/** Every route: what it takes and what it answers. */',
    `export interface Operations {\n${operations.join('\n')}\n}`,
    '',
  ].join('\n');
}

function nameOf(path, method) {
  const words = [method, ...path.split('/').filter((part) => part !== '' && !part.startsWith('{'))];
  return words
    .flatMap((word) => word.split(/[^A-Za-z0-9]/))
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');
}

/** Descriptions and bounds make no other type. */
function structureOf(schema) {
  return typeOf(schema, '', new Map(), false);
}

function typeOf(schema, indent, named, isCommented = true) {
  if (schema === undefined || schema === true) return 'unknown';
  const known = named.size > 0 && schema.type === 'object' ? named.get(structureOf(schema)) : undefined;
  if (known !== undefined) return known;
  const inner = (one) => typeOf(one, indent, named, isCommented);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return [...new Set(choices.map(inner))].join(' | ');
  if (schema.const !== undefined) return literal(schema.const);
  if (schema.enum !== undefined) return schema.enum.map(literal).join(' | ');
  if (Array.isArray(schema.type))
    return [...new Set(schema.type.map((type) => inner({ ...schema, type })))].join(' | ');
  switch (schema.type) {
    case 'string':
      return 'string';
    case 'number':
    case 'integer':
      return 'number';
    case 'boolean':
      return 'boolean';
    case 'null':
      return 'null';
    case 'array': {
      const item = inner(schema.items);
      return `readonly ${/[|{]/.test(item) && !item.startsWith('{') ? `(${item})` : item}[]`;
    }
    case 'object':
      return objectType(schema, indent, named, isCommented);
    default:
      return 'unknown';
  }
}

function objectType(schema, indent, named, isCommented) {
  const deeper = `${indent}  `;
  const required = new Set(schema.required ?? []);
  const open = Object.values(schema.patternProperties ?? {})[0] ?? (schema.additionalProperties || undefined);
  const lines = Object.entries(schema.properties ?? {}).map(([key, value]) => {
    const type = typeOf(value, deeper, named, isCommented);
    const about = isCommented && value.description !== undefined ? comment(value.description, deeper) : '';
    const name = /^[A-Za-z_]\w*$/.test(key) ? key : `'${key}'`;
    return `${about}${deeper}readonly ${name}${required.has(key) ? '' : '?'}: ${type}${required.has(key) ? '' : ' | undefined'};`;
  });
  if (lines.length === 0)
    return `Readonly<Record<string, ${open === undefined ? 'never' : typeOf(open, indent, named, isCommented)}>>`;
  if (open !== undefined) lines.push(`${deeper}readonly [key: string]: unknown;`);
  return `{\n${lines.join('\n')}\n${indent}}`;
}

function literal(value) {
  return typeof value === 'string' ? `'${value.replaceAll("'", "\\'")}'` : String(value);
}

function comment(text, indent) {
  const safe = text.replaceAll('*/', '*\\/');
  if (indent.length + safe.length + 7 <= LINE) return `${indent}/** ${safe} */\n`;
  const lines = [''];
  for (const word of safe.split(' ')) {
    const last = lines.length - 1;
    if (`${lines[last]} ${word}`.length + indent.length + 3 > LINE) lines.push(word);
    else lines[last] = lines[last] === '' ? word : `${lines[last]} ${word}`;
  }
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}\n`).join('')}${indent} */\n`;
}

/** The document of an application that never answers: routes only close over what it is made of. */
export async function documentOf({ buildApp, Retriever, Metrics, GenerationStore, DEFAULTS }) {
  const metrics = new Metrics();
  const nothing = {};
  const app = await buildApp({
    retriever: new Retriever(new GenerationStore(), metrics),
    metrics,
    settings: { ...DEFAULTS, models: '.' },
    upserts: nothing,
    rebuilder: nothing,
    admin: { data: { path: '.' }, rebuilder: nothing, follower: nothing },
    version: '0',
  });
  await app.ready();
  const document = app.swagger();
  await app.close();
  return document;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const from = (path) => import(pathToFileURL(join(root, 'dist', path)).href);
  const parts = Object.assign(
    {},
    ...(await Promise.all(
      ['http/app.js', 'retrieval/retriever.js', 'telemetry/metrics.js', 'generation/store.js', 'config/schema.js'].map(
        from,
      ),
    )),
  );
  const path = join(root, 'src/client/api.ts');
  writeFileSync(path, clientTypes(await documentOf(parts)));
  spawnSync('npx', ['prettier', '--write', path], { stdio: 'inherit' });
}
