/**
 * The second listener. It leads to the same application; what is for administrators is asked through it only. By default
 * it is on loopback, whatever address the first one has.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';

export class AdminDoor {
  readonly #through = new WeakSet<IncomingMessage>();
  /** `http://127.0.0.1:18080`; undefined before it listens. */
  address: string | undefined;

  handlerOf(app: FastifyInstance): (request: IncomingMessage, response: ServerResponse) => void {
    return (request, response) => {
      this.#through.add(request);
      app.routing(request, response);
    };
  }

  isThrough(request: IncomingMessage): boolean {
    return this.#through.has(request);
  }
}
