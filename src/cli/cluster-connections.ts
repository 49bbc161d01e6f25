/**
 * Connections on their way to a worker. Node accepts them in the primary and hands them out, to each worker the next one when it
 * has taken the last, so that they are spread evenly. (Where workers accept from a shared socket, the first to wake takes
 * a whole burst, and requests wait for one process while the other one is idle.) But Node forgets a connection whose worker
 * dies on the way: it stays open, and its client waits for ever. Here it is refused in the dead worker's name, and Node gives
 * it to another one.
 *
 * One window is left: between the end of a dead worker's channel and its exit, Node may take a connection off its list and send it
 * nowhere. It lasts milliseconds, and takes a worker that dies while it is free for the other port.
 *
 * The messages are Node's own (lib/internal/cluster): `newconn`, with a number and a handle, is answered by `ack` and `accepted`.
 */
import type { ChildProcess, Serializable } from 'node:child_process';
import type { Worker } from 'node:cluster';

interface Handle {
  close(): void;
}

type Send = (message: Serializable, handle: unknown, options: unknown, done: unknown) => boolean;

/** Looks after what is sent to this worker, from its fork on. `hasOther`: another one takes connections. */
export function keepConnections(worker: Worker, hasOther: () => boolean): void {
  const { process: child } = worker;
  const send = child.send.bind(child) as Send;
  const onTheirWay = new Map<number, Handle>();
  const sendKept: Send = (message, handle, options, done) => {
    const { act, seq } = message as { act?: unknown; seq?: number };
    if (act !== 'newconn' || seq === undefined) return send(message, handle, options, done);
    onTheirWay.set(seq, handle as Handle);
    // The worker may just have died: without a callback, a failed send is an 'error' that stops the primary.
    return send(message, handle, {}, () => undefined);
  };
  child.send = sendKept as ChildProcess['send'];
  child.on('internalMessage', ({ ack }: { ack?: number }) => {
    if (ack !== undefined) onTheirWay.delete(ack);
  });
  const giveBack = (): void => {
    // Until the channel has been read to its end: what the worker has taken is not given away.
    if (worker.isConnected()) return void setImmediate(giveBack);
    // Which Node tells nobody where connections still wait to be sent. It takes the worker from those that get any.
    child.emit('disconnect');
    for (const [ack, handle] of onTheirWay) {
      if (hasOther()) child.emit('internalMessage', { cmd: 'NODE_CLUSTER', ack, accepted: false });
      else handle.close();
    }
  };
  child.once('exit', giveBack);
}
