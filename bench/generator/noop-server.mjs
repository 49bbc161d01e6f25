// Answers every request with the same bytes, as soon as it comes: it reads no HTTP, so it is never the limit of a generator
// that waits for each answer on a connection.
import { createServer } from 'node:net';

const body = '{"items":[],"generation":"g","models":{},"degraded":[],"returned":0}';
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
);
const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => undefined); // a generator may leave as it likes
  socket.on('data', () => socket.write(answer));
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`http://127.0.0.1:${server.address().port}\n`));
