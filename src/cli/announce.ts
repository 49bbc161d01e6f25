/** What a server says when it serves: to people what to try next, to scripts one line. */
import type { Generation } from '../generation/generation.js';
import type { Id } from '../types.js';
import { colors, print } from './terminal.js';

/** Of a process that listens; plain data, so that a worker can tell it to its primary. */
export interface ServingFacts {
  readonly address: string;
  /** Of the administrators' listener, where they have one of their own. */
  readonly admin: string | undefined;
  /** Absent: nothing serves yet, and `problem` says why. */
  readonly generation?: {
    readonly id: string;
    readonly items: number;
    readonly users: number;
    readonly dims: number;
    readonly metric: string;
    readonly kernel: string;
    /** A request that can be tried. */
    readonly example: { readonly user_id: Id } | { readonly item_ids: readonly Id[] };
  };
  readonly problem?: { readonly code: string; readonly message: string };
}

export function generationFacts(generation: Generation): NonNullable<ServingFacts['generation']> {
  const { id, index, itemIds, userIds } = generation;
  const [user] = generation.exampleUsers(1);
  const { dims, metric, kernel } = index.info;
  const example = user === undefined ? { item_ids: itemIds.size > 0 ? [itemIds.idOf(0)] : [] } : { user_id: user };
  return { id, items: itemIds.size, users: userIds?.size ?? 0, dims, metric, kernel, example };
}

/** `more`: facts of the line for scripts that only some servers have. */
export function announce(facts: ServingFacts, isReused: boolean, asJson: boolean, more: object = {}): void {
  const { address, admin, generation, problem } = facts;
  if (asJson) {
    const { id, items, kernel } = generation ?? {};
    const serving = { ready: true, address, admin, generation: id, reused: isReused, items, kernel };
    const waiting = { ready: false, address, admin, code: problem?.code, reason: problem?.message };
    print(JSON.stringify({ ...(generation === undefined ? waiting : serving), ...more }));
    return;
  }
  if (generation === undefined) return; // the log says why
  const { id, items, users, dims, metric, kernel, example } = generation;
  print('');
  print(
    `${colors.bold('Belfry')} serves generation ${colors.cyan(id)}: ${items} items, ${users} users, ${dims} dims, ${metric}, ${kernel} kernels`,
  );
  print('');
  print('Try next:');
  const body = JSON.stringify({ ...example, k: 10 }).replaceAll("'", "'\\''");
  print(`  curl -s ${address}/retrieve -H 'content-type: application/json' -d '${body}'`);
  const page = admin ?? address;
  print(`  page ${colors.cyan(`${page}/`)}   API ${colors.cyan(`${page}/docs`)}   metrics ${address}/metrics`);
  print('');
}
