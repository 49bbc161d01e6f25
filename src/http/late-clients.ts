/**
 * Clients whose request did not arrive in time are told so and closed one in a turn of the event loop: Node finds all of
 * them in one look, and a thousand closed at once, at 0.1 ms each, would keep everyone else waiting. An answer takes three or
 * four turns, each of which would be longer by what is closed in it.
 */
import type { Socket } from 'node:net';

interface Late {
  readonly socket: Socket;
  readonly bytesWritten: number;
  readonly tell: (socket: Socket) => void;
}

const waiting: Late[] = [];

/** `tell` writes the last answer and destroys the socket; not called when the request came after all and was answered meanwhile. */
export function closeLate(socket: Socket, tell: (socket: Socket) => void): void {
  if (waiting.push({ socket, bytesWritten: socket.bytesWritten, tell }) === 1) setImmediate(closeNext);
}

function closeNext(): void {
  const { socket, bytesWritten, tell } = waiting.shift()!;
  if (waiting.length > 0) setImmediate(closeNext);
  if (socket.bytesWritten === bytesWritten) tell(socket);
  else socket.destroySoon();
}
