/** Helmet's headers, asked for once: they are the same in every answer, and making them costs more than checking a request. */
import helmet from '@fastify/helmet';
import Fastify from 'fastify';

export interface SecurityHeaderOptions {
  readonly isTls: boolean;
}

/** Names in lower case. */
export async function securityHeaders({ isTls }: SecurityHeaderOptions): Promise<Readonly<Record<string, string>>> {
  const asked = Fastify();
  await asked.register(helmet, {
    // The page and /docs load from here only; styles are set inline by both. Plain HTTP is legal on loopback.
    contentSecurityPolicy: {
      directives: {
        defaultSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:'],
        upgradeInsecureRequests: null,
      },
    },
    strictTransportSecurity: isTls,
    // For Internet Explorer, Flash and what browsers no longer do: each header costs a fifth of a microsecond an answer.
    dnsPrefetchControl: false,
    ieNoOpen: false,
    permittedCrossDomainPolicies: false,
    xssFilter: false,
  });
  asked.get('/', (_request, reply) => void reply.code(204).send());
  const { headers } = await asked.inject('/');
  await asked.close();
  const ofTheAnswer = new Set(['connection', 'date', 'content-length']);
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => (ofTheAnswer.has(name) ? [] : [[name, String(value)]])),
  );
}
