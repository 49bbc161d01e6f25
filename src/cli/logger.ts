/** The log of a process: JSON lines on standard error, without keys, passwords and tokens, whoever puts them into one. */
import { type DestinationStream, type Logger, pino } from 'pino';
import { redacted, withoutSecrets } from '../config/secrets.js';

export function makeLogger(level: string, to: DestinationStream): Logger {
  return pino(
    {
      level,
      formatters: { log: (line) => withoutSecrets(line) },
      serializers: {
        err: (error: unknown) => withoutSecrets(error instanceof Error ? pino.stdSerializers.err(error) : error),
      },
      hooks: {
        logMethod(args, method) {
          const texts = args.map((one) => (typeof one === 'string' ? redacted(one) : one)) as typeof args;
          method.apply(this, texts);
        },
      },
    },
    to,
  );
}
