/** What a test uses of client-types.mjs. */
export function clientTypes(document: unknown): string;
/** `parts` are buildApp, Retriever, Metrics, GenerationStore and DEFAULTS. */
export function documentOf(parts: object): Promise<unknown>;
