/**
 * Clients whose request did not arrive in time are told so and closed one in a turn of the event loop: Node finds all of
 * them in one look, and a thousand closed at once, at 0.1 ms each, would keep everyone else waiting. An answer takes three or
 * four turns, each of which would be longer by what is closed in it. When turns are long, or those who are late many, the ones that
 * have waited for some time are closed several in a turn: they hold connections that others could have.
 */
import type { Socket } from 'node:net';

const PATIENCE_MS = 500;
/** Of a turn, when patience has ended. Milliseconds. */
const SLICE_MS = 0.5;

interface Late {
  readonly socket: Socket;
  /** Performance time. */
  readonly since: number;
  readonly bytesWritten: number;
  readonly tell: (socket: Socket) => void;
}

const waiting: Late[] = [];

/** `tell` writes the last answer and destroys the socket; not called when the request came after all and was answered meanwhile. */
export function closeLate(socket: Socket, tell: (socket: Socket) => void): void {
  const late = { socket, since: performance.now(), bytesWritten: socket.bytesWritten, tell };
  if (waiting.push(late) === 1) setImmediate(closeSome);
}

function closeSome(): void {
  const started = performance.now();
  try {
    do {
      const { socket, bytesWritten, tell } = waiting.shift()!;
      if (socket.bytesWritten === bytesWritten) tell(socket);
      else socket.destroySoon();
    } while (started - (waiting[0]?.since ?? started) > PATIENCE_MS && performance.now() - started < SLICE_MS);
  } finally {
    if (waiting.length > 0) setImmediate(closeSome);
  }
}
