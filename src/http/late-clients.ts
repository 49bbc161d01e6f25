/**
 * Clients whose request did not arrive in time are told so and closed a few in a turn of the event loop: Node finds all of
 * them in one look, and a thousand closed at once, at 0.1 ms each, would keep everyone else waiting.
 */
import type { Socket } from 'node:net';

/** Milliseconds of a turn. */
const SLICE_MS = 0.5;

interface Late {
  readonly socket: Socket;
  readonly bytesWritten: number;
  readonly tell: (socket: Socket) => void;
}

const waiting: Late[] = [];

/** `tell` writes the last answer and destroys the socket; not called when the request came after all and was answered meanwhile. */
export function closeLate(socket: Socket, tell: (socket: Socket) => void): void {
  if (waiting.push({ socket, bytesWritten: socket.bytesWritten, tell }) === 1) setImmediate(closeSome);
}

function closeSome(): void {
  const started = performance.now();
  try {
    do {
      const { socket, bytesWritten, tell } = waiting.shift()!;
      if (socket.bytesWritten === bytesWritten) tell(socket);
      else socket.destroySoon();
    } while (waiting.length > 0 && performance.now() - started < SLICE_MS);
  } finally {
    if (waiting.length > 0) setImmediate(closeSome);
  }
}
