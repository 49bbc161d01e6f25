// What a team writes first: Fastify and hnswlib-node. POST /retrieve {user_id, k} -> {items: [{id, score}]}. No checks, no
// filters, no generations, no deadline, no metrics. Forked with { items, users, graph, ef }; says {address}.
import { readFileSync } from 'node:fs';
import Fastify from 'fastify';
import { readNpy } from '../datasets/npy.mjs';
import { requirePeer } from './packages.mjs';

const { itemIds, userIds, users, graph, dims, ef } = JSON.parse(process.argv[2]);
const hnswlib = requirePeer('hnswlib-node');
const lines = (path) => readFileSync(path, 'utf8').trimEnd().split('\n');

const index = new hnswlib.HierarchicalNSW('ip', dims);
index.readIndexSync(graph);
index.setEf(ef);
const ids = lines(itemIds);
const vectors = readNpy(users);
const byUser = new Map(
  lines(userIds).map((id, row) => [id, Array.from(vectors.subarray(row * dims, (row + 1) * dims))]),
);

const app = Fastify({ logger: false });
app.post('/retrieve', async (request, reply) => {
  const { user_id, k = 10 } = request.body;
  const vector = byUser.get(user_id);
  if (vector === undefined) return reply.code(404).send({ message: 'no such user' });
  const { neighbors, distances } = index.searchKnn(vector, k);
  return { items: neighbors.map((row, place) => ({ id: ids[row], score: 1 - distances[place] })) };
});
process.stdout.write(`${JSON.stringify({ address: await app.listen({ port: 0, host: '127.0.0.1' }) })}\n`);
