// node:http alone: reads each request and answers the same bytes. What it cannot do at a rate, with this generator on this
// machine, no service on node:http can.
import { createServer } from 'node:http';

const body = '{"code":"BELFRY_OVERLOADED","message":"the service is overloaded; try again in a second"}';
const head = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
const server = createServer((request, reply) => {
  request.resume();
  reply.writeHead(200, head);
  reply.end(body);
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ address: `http://127.0.0.1:${server.address().port}` })}\n`);
});
