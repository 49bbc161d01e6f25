/** Where the lines of the log go: written in the background, dropped and counted when the other end takes none. */
import { destination, type DestinationStream } from 'pino';

/** Bytes that wait for a sink that is slow; a stalled one loses what comes on top, and stops nobody. */
const WAITING_BYTES_MAX = 4 * 1024 * 1024;

export interface LogSink {
  readonly stream: DestinationStream;
  /** Lines dropped so far are told at once, later ones as they are dropped. */
  onDrop(listener: (lines: number) => void): void;
}

/** `descriptor` 2 is standard error. */
export function openLogSink(descriptor: number, waitingBytesMax = WAITING_BYTES_MAX): LogSink {
  let early = 0;
  let tell = (lines: number): void => void (early += lines);
  const stream = destination({ dest: descriptor, sync: false, maxLength: waitingBytesMax });
  stream.on('drop', () => tell(1));
  return {
    stream,
    onDrop(listener) {
      tell = listener;
      if (early > 0) listener(early);
    },
  };
}
