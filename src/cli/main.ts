#!/usr/bin/env node
/** The command line: parses, calls one command, turns errors into a message and an exit code. */
import { Command, CommanderError } from 'commander';
import { VERSION } from '../version.js';
import { addBench } from './bench.js';
import { addBuild } from './build.js';
import { addPull, addPush } from './copies.js';
import { addDoctor } from './doctor.js';
import { addGenerations, addRollback, addVerify } from './generations.js';
import { addInspect } from './inspect.js';
import { addKeys } from './keys.js';
import { addQuery } from './query.js';
import { addRetrieveAll } from './retrieve-all.js';
import { addServe } from './serve.js';
import { exitCodeOf, explainSystem, reportError } from './terminal.js';

const program = new Command('belfry')
  .description('Candidate retrieval for two-tower recommenders: embeddings in, /retrieve out.')
  .version(VERSION)
  .showHelpAfterError('(belfry <command> --help shows the options)')
  .configureHelp({ sortSubcommands: false })
  // Before the commands are added: they inherit it.
  .exitOverride();

for (const add of [
  addServe,
  addBuild,
  addQuery,
  addRetrieveAll,
  addInspect,
  addGenerations,
  addRollback,
  addVerify,
  addPush,
  addPull,
  addKeys,
  addDoctor,
  addBench,
]) {
  add(program);
}

try {
  await program.parseAsync();
} catch (thrown) {
  // Commander has printed its message; help and version are no failure, all else is wrong use.
  if (thrown instanceof CommanderError) process.exit(thrown.exitCode === 0 ? 0 : 2);
  const error = explainSystem(thrown);
  reportError(error, process.argv.includes('--json'));
  // A worker or a socket may still hold the loop; the message is out, so end now.
  process.exit(exitCodeOf(error));
}
