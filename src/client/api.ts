/** The types of the HTTP API, from its OpenAPI document: written by scripts/client-types.mjs, not by hand. */

export type ErrorAnswer = {
  readonly code: string;
  readonly message: string;
  readonly field?: string | undefined;
  readonly limit?: number | string | undefined;
  readonly request_id: string;
};

/** Exactly one of user_id, features, embedding, item_ids names the query. */
export type RetrieveBody = {
  /** A string, or an integer up to 2^53. */
  readonly user_id?: string | number | undefined;
  /** User features by column name; the user tower computes a fresh query embedding from them. */
  readonly features?:
    Readonly<Record<string, string | number | boolean | null | readonly (string | number)[]>> | undefined;
  /** Query vector in the space of the item embeddings. */
  readonly embedding?: readonly number[] | undefined;
  /** The mean of these items is the query. */
  readonly item_ids?: readonly (string | number)[] | undefined;
  /** How many items to answer; default 10. */
  readonly k?: number | undefined;
  /**
   * Only matching items are answered: all of `must`, none of `must_not`, at least one of `should`. A clause
   * is {"field" (a column of features/items.parquet, or id), and one or more of "eq", "in", "all", "lt",
   * "lte", "gt", "gte", "exists"} or a nested group.
   */
  readonly filter?:
    | {
        readonly must?: readonly Readonly<Record<string, unknown>>[] | undefined;
        readonly must_not?: readonly Readonly<Record<string, unknown>>[] | undefined;
        readonly should?: readonly Readonly<Record<string, unknown>>[] | undefined;
      }
    | undefined;
  /** Item ids that are never answered. */
  readonly exclude?: readonly (string | number)[] | undefined;
  /**
   * Named lists of items that are never answered: files of exclusions/ in the models folder. A set by user
   * needs user_id.
   */
  readonly exclude_sets?: readonly string[] | undefined;
  /** Item columns to answer with each item. */
  readonly with_metadata?: readonly string[] | undefined;
  /** Search with a proof of exactness. */
  readonly exact?: boolean | undefined;
  /** Least recall@k, met by the cheapest calibrated search; default 0.98. 1 is the same as exact. */
  readonly recall?: number | undefined;
  /** Effort of a graph search (rows kept while walking), instead of a recall. */
  readonly ef?: number | undefined;
  /** Deadline of this request. */
  readonly timeout_ms?: number | undefined;
  /** Answer how the items were found, and the stage timings. */
  readonly explain?: boolean | undefined;
  /**
   * Leave out what the user has: the column `seen`, else `history`, and the exclusion set `seen` where there
   * is one.
   */
  readonly exclude_seen?: boolean | undefined;
  /**
   * With user_id: the user tower computes the query from what is known of the user now (feature stores, then
   * the table), instead of the stored vector.
   */
  readonly fresh?: boolean | undefined;
  /**
   * true: re-rank with what the traffic policy gives this user (the reranker in production, or one under
   * test). A name, or name@version: with that one.
   */
  readonly rerank?: boolean | string | undefined;
  /** Features of the moment, by name, for rerankers that read context.<name>. */
  readonly context?:
    Readonly<Record<string, string | number | boolean | null | readonly (string | number)[]>> | undefined;
  /** Retrieval depth before re-ranking; default 500. */
  readonly candidates?: number | undefined;
  /**
   * All that is asked for, or an error: without it, overload and short deadlines lower an answer, which
   * `degraded` says.
   */
  readonly strict?: boolean | undefined;
  /**
   * A set of rules in the settings of the server (default "default", where there is one), or "none"; fields
   * beside it replace those of the set.
   */
  readonly rules?: string | undefined;
  /**
   * How much being unlike the items before it counts for an item, against its score: maximal marginal
   * relevance on item vectors. 0, the default, is by score alone.
   */
  readonly diversity?: number | undefined;
  /**
   * At most `max` items of one value of `field`. An item with a list counts for each entry; one without a
   * value is never capped.
   */
  readonly caps?:
    | readonly {
        /** A column of features/items.parquet. */
        readonly field: string;
        readonly max: number;
      }[]
    | undefined;
  /** Other scores for candidates that pass a filter, in this order; each has `add` or `multiply`. */
  readonly boosts?:
    | readonly {
        /** As `filter` of a request. */
        readonly filter: Readonly<Record<string, unknown>>;
        /** Is added to the score. */
        readonly add?: number | undefined;
        /**
         * The score is multiplied by it, a negative score divided: above 1 always lifts, below 1 always lowers.
         */
        readonly multiply?: number | undefined;
      }[]
    | undefined;
  /**
   * Items at fixed places, whatever their scores, caps and min_score; what the filter or an exclusion forbids
   * is left out.
   */
  readonly pins?:
    | readonly {
        readonly id: string | number;
        /** 1 is the first place. */
        readonly position: number;
      }[]
    | undefined;
  /** Items whose `score` (of the reranker where there is one, boosted) is lower are cut. */
  readonly min_score?: number | undefined;
};

export type RetrieveAnswer = {
  readonly items: readonly {
    /** A string, or an integer up to 2^53. */
    readonly id: string | number;
    /**
     * What the list is ordered by, before diversity and pins: the reranker’s score, else the retrieval score,
     * boosted.
     */
    readonly score: number;
    readonly retrieval_score: number;
    /** Absent for an item that the search did not return: a pinned one, or one found past full caps. */
    readonly retrieval_rank?: number | undefined;
    readonly pinned?: true | undefined;
    readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  }[];
  readonly generation: string;
  readonly models: {
    readonly tower?: string | undefined;
    readonly reranker?: string | undefined;
  };
  /** Which variant this answer is, and why; for the analysis of experiments. Only with rerank. */
  readonly exposure?:
    | {
        /** name@version of the reranker; control where retrieval order stands. */
        readonly variant: string;
        /** Where the user falls in [0, 1). */
        readonly bucket?: number | undefined;
        readonly reason: 'production' | 'ab-test' | 'control' | 'no_user' | 'named' | 'override';
      }
    | undefined;
  readonly degraded: readonly string[];
  readonly returned: number;
  readonly explain?: Readonly<Record<string, unknown>> | undefined;
  readonly timings_ms?: Readonly<Record<string, number>> | undefined;
};

export type RetrieveBatchBody = {
  readonly requests: readonly RetrieveBody[];
};

export type RetrieveBatchAnswer = {
  readonly responses: readonly (
    | RetrieveAnswer
    | {
        readonly error: ErrorAnswer;
      }
  )[];
};

export type SimilarItemsBody = {
  /** A string, or an integer up to 2^53. */
  readonly item_id?: string | number | undefined;
  /** Query vector in the space of the item embeddings. */
  readonly embedding?: readonly number[] | undefined;
  /** How many items to answer; default 10. */
  readonly k?: number | undefined;
  /**
   * Only matching items are answered: all of `must`, none of `must_not`, at least one of `should`. A clause
   * is {"field" (a column of features/items.parquet, or id), and one or more of "eq", "in", "all", "lt",
   * "lte", "gt", "gte", "exists"} or a nested group.
   */
  readonly filter?:
    | {
        readonly must?: readonly Readonly<Record<string, unknown>>[] | undefined;
        readonly must_not?: readonly Readonly<Record<string, unknown>>[] | undefined;
        readonly should?: readonly Readonly<Record<string, unknown>>[] | undefined;
      }
    | undefined;
  /** Item ids that are never answered. */
  readonly exclude?: readonly (string | number)[] | undefined;
  /**
   * Named lists of items that are never answered: files of exclusions/ in the models folder. A set by user
   * needs user_id.
   */
  readonly exclude_sets?: readonly string[] | undefined;
  /** Item columns to answer with each item. */
  readonly with_metadata?: readonly string[] | undefined;
  /** Search with a proof of exactness. */
  readonly exact?: boolean | undefined;
  /** Least recall@k, met by the cheapest calibrated search; default 0.98. 1 is the same as exact. */
  readonly recall?: number | undefined;
  /** Effort of a graph search (rows kept while walking), instead of a recall. */
  readonly ef?: number | undefined;
  /** Deadline of this request. */
  readonly timeout_ms?: number | undefined;
  /** Answer how the items were found, and the stage timings. */
  readonly explain?: boolean | undefined;
};

export type SimilarItemsAnswer = {
  readonly items: readonly {
    /** A string, or an integer up to 2^53. */
    readonly id: string | number;
    readonly score: number;
    readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  }[];
  readonly generation: string;
  readonly returned: number;
  readonly explain?: Readonly<Record<string, unknown>> | undefined;
  readonly timings_ms?: Readonly<Record<string, number>> | undefined;
};

export type SimilarUsersBody = {
  /** A string, or an integer up to 2^53. */
  readonly user_id?: string | number | undefined;
  /** Query vector in the space of the item embeddings. */
  readonly embedding?: readonly number[] | undefined;
  /** How many items to answer; default 10. */
  readonly k?: number | undefined;
  readonly exact?: boolean | undefined;
  /** Least recall@k, met by the cheapest calibrated search; default 0.98. 1 is the same as exact. */
  readonly recall?: number | undefined;
  /** Effort of a graph search (rows kept while walking), instead of a recall. */
  readonly ef?: number | undefined;
  /** Deadline of this request. */
  readonly timeout_ms?: number | undefined;
  /** Answer how the items were found, and the stage timings. */
  readonly explain?: boolean | undefined;
};

/** The whole item: what is not said of it is null. embedding or features must be there. */
export type PutItemsBody = {
  /** The vector of the item, in the space of the item embeddings. */
  readonly embedding?: readonly number[] | undefined;
  /** Features by column name; without an embedding, the item tower makes one of them. */
  readonly features?:
    Readonly<Record<string, string | number | boolean | null | readonly (string | number)[]>> | undefined;
  /**
   * Columns of the item table, which filters, with_metadata and rerankers read; absent ones are null. Without
   * it, those among the features.
   */
  readonly metadata?:
    Readonly<Record<string, string | number | boolean | null | readonly (string | number)[]>> | undefined;
};

export type PutItemsAnswer = {
  /** A string, or an integer up to 2^53. */
  readonly id: string | number;
  readonly result: 'created' | 'replaced' | 'deleted';
  /** The generation that serves, which the change is laid over. */
  readonly generation: string;
};

export type ModelsAnswer = {
  readonly generation: string;
  readonly models: readonly {
    readonly model: string;
    readonly name: string;
    readonly version: string;
    readonly format: string;
    readonly bytes: number;
    readonly stage: string;
    readonly role: string;
    readonly sha256: string;
    readonly path: string;
    readonly runs: 'in process' | 'model server' | 'not run';
    /** Name of the model server in the settings. */
    readonly server?: string | undefined;
    /** The version of the MLflow registry that it is. */
    readonly mlflow?: string | undefined;
    /** Of the users whose requests are re-ranked. */
    readonly share?: number | undefined;
    /** Of its circuit breaker: closed, open or half-open. */
    readonly state?: string | undefined;
    readonly problem?: string | undefined;
    readonly latency_ms?:
      | {
          readonly p50: number;
          readonly p99: number;
          /** That this is of. */
          readonly runs: number;
        }
      | undefined;
  }[];
};

export type AdminGenerationsReportAnswer = {
  readonly version: 1;
  readonly generation: string;
  readonly created: string;
  readonly models_folder: string;
  readonly metric: string;
  readonly build_seconds: number;
  readonly items: number;
  readonly users: number;
  readonly dims: number;
  /** of all files */
  readonly bytes: number;
  readonly graph_bytes: number;
  readonly gates: readonly {
    readonly name: 'input' | 'skew' | 'recall' | 'canaries';
    readonly code: 'BELFRY_INPUT_GATE' | 'BELFRY_SKEW' | 'BELFRY_RECALL' | 'BELFRY_CANARIES';
    readonly status: 'passed' | 'failed' | 'overridden' | 'not_checked';
    readonly detail: string;
    readonly measurements: readonly {
      readonly what: string;
      readonly value: number;
      readonly min?: number | undefined;
      readonly max?: number | undefined;
    }[];
  }[];
  readonly overrides: readonly string[];
  readonly norms: {
    /** euclidean lengths of the rows */
    readonly items: {
      readonly min: number;
      readonly mean: number;
      readonly max: number;
      readonly p1: number;
      readonly p10: number;
      readonly p50: number;
      readonly p90: number;
      readonly p99: number;
      /** rows that the percentiles were taken of */
      readonly sampled: number;
    };
    /** euclidean lengths of the rows */
    readonly users?:
      | {
          readonly min: number;
          readonly mean: number;
          readonly max: number;
          readonly p1: number;
          readonly p10: number;
          readonly p50: number;
          readonly p90: number;
          readonly p99: number;
          /** rows that the percentiles were taken of */
          readonly sampled: number;
        }
      | undefined;
  };
  readonly recall: {
    readonly target: number;
    /** the search as it serves, on users that the build has not seen */
    readonly measured: readonly {
      readonly k: number;
      readonly recall: number;
      readonly microseconds: number;
    }[];
    readonly curve: readonly {
      readonly k: number;
      readonly points: readonly {
        readonly recall: number;
        /** of one query on one thread */
        readonly microseconds: number;
        readonly effort: string;
      }[];
    }[];
    readonly scan_microseconds?: number | undefined;
  };
  readonly diff?:
    | {
        /** the generation before */
        readonly generation: string;
        readonly items: {
          readonly before: number;
          readonly now: number;
          readonly added: number;
          readonly removed: number;
          readonly added_examples: readonly (string | number)[];
          readonly removed_examples: readonly (string | number)[];
        };
        readonly users?:
          | {
              readonly before: number;
              readonly now: number;
              readonly added: number;
              readonly removed: number;
              readonly added_examples: readonly (string | number)[];
              readonly removed_examples: readonly (string | number)[];
            }
          | undefined;
        /** of items that both generations have, a sample where they are many */
        readonly moved?:
          | {
              readonly compared: number;
              /** vectors whose cosine to the one before is at least 0.9999 */
              readonly unchanged: number;
              /** vectors whose cosine to the one before is below 0.99 */
              readonly moved: number;
              readonly mean_cosine: number;
              /**
               * share of the 10 nearest items of an item that stay so; a training that turns all vectors keeps them
               */
              readonly neighbours_kept: number;
            }
          | undefined;
        /** median lengths */
        readonly norms: {
          readonly items: {
            readonly before: number;
            readonly now: number;
          };
          readonly users?:
            | {
                readonly before: number;
                readonly now: number;
              }
            | undefined;
        };
        readonly recall: readonly {
          readonly k: number;
          readonly before: number;
          readonly now: number;
        }[];
        readonly bytes: {
          readonly before: number;
          readonly now: number;
        };
        /** models whose file changed */
        readonly models: readonly {
          readonly role: string;
          readonly before: string;
          readonly now: string;
        }[];
        readonly feature_schema_changed: boolean;
      }
    | undefined;
};

export type PostAdminRebuildBody = {
  /** Build even when the export has not changed. */
  readonly force?: boolean | undefined;
  /** Gates that may fail; the generation is published all the same, and its manifest says so. */
  readonly overrides?: readonly ('input' | 'skew' | 'recall' | 'canaries')[] | undefined;
};

export type PostAdminRebuildAnswer = {
  /** elsewhere: another process builds into the same data folder. */
  readonly state: 'idle' | 'running' | 'elsewhere';
  readonly running?:
    | {
        readonly trigger: 'cli' | 'api' | 'start' | 'export' | 'schedule';
        readonly stage: string;
        readonly done: number;
        readonly total: number;
        readonly seconds: number;
        /** Seconds that are left, judged by the build before; null for the first one. */
        readonly eta_seconds: number | null;
      }
    | undefined;
  /** Process id of the builder elsewhere. */
  readonly process?: number | undefined;
  readonly problem?:
    | {
        readonly code: string;
        readonly message: string;
      }
    | undefined;
  readonly next_scheduled?: string | undefined;
  /** The last 50, newest first. */
  readonly builds: readonly {
    /** When, in ISO 8601. */
    readonly started: string;
    readonly seconds: number;
    readonly trigger: 'cli' | 'api' | 'start' | 'export' | 'schedule';
    /** unchanged: the newest generation was made from this very export. */
    readonly result: 'published' | 'unchanged' | 'failed' | 'cancelled';
    /** What CURRENT named after it. */
    readonly generation?: string | undefined;
    /** Of the error that ended it. */
    readonly code?: string | undefined;
    readonly message?: string | undefined;
    /** Of a build that failed: what its gates measured before that. */
    readonly gates?:
      | readonly {
          readonly name: 'input' | 'skew' | 'recall' | 'canaries';
          readonly code: 'BELFRY_INPUT_GATE' | 'BELFRY_SKEW' | 'BELFRY_RECALL' | 'BELFRY_CANARIES';
          readonly status: 'passed' | 'failed' | 'overridden' | 'not_checked';
          readonly detail: string;
          readonly measurements: readonly {
            readonly what: string;
            readonly value: number;
            readonly min?: number | undefined;
            readonly max?: number | undefined;
          }[];
        }[]
      | undefined;
    /** Seconds of each stage, in order. */
    readonly stages: Readonly<Record<string, number>>;
    /** Largest resident memory of the builder process. */
    readonly peak_memory_bytes?: number | undefined;
  }[];
};

export type DeleteAdminRebuildAnswer = {
  /** When, in ISO 8601. */
  readonly started: string;
  readonly seconds: number;
  readonly trigger: 'cli' | 'api' | 'start' | 'export' | 'schedule';
  /** unchanged: the newest generation was made from this very export. */
  readonly result: 'published' | 'unchanged' | 'failed' | 'cancelled';
  /** What CURRENT named after it. */
  readonly generation?: string | undefined;
  /** Of the error that ended it. */
  readonly code?: string | undefined;
  readonly message?: string | undefined;
  /** Of a build that failed: what its gates measured before that. */
  readonly gates?:
    | readonly {
        readonly name: 'input' | 'skew' | 'recall' | 'canaries';
        readonly code: 'BELFRY_INPUT_GATE' | 'BELFRY_SKEW' | 'BELFRY_RECALL' | 'BELFRY_CANARIES';
        readonly status: 'passed' | 'failed' | 'overridden' | 'not_checked';
        readonly detail: string;
        readonly measurements: readonly {
          readonly what: string;
          readonly value: number;
          readonly min?: number | undefined;
          readonly max?: number | undefined;
        }[];
      }[]
    | undefined;
  /** Seconds of each stage, in order. */
  readonly stages: Readonly<Record<string, number>>;
  /** Largest resident memory of the builder process. */
  readonly peak_memory_bytes?: number | undefined;
};

export type AdminGenerationsAnswer = {
  /** What CURRENT names. */
  readonly current: string | null;
  /** What a rollback goes to. */
  readonly previous: string | null;
  /** What this process serves. */
  readonly serving: string | null;
  /** Newest first. */
  readonly generations: readonly {
    readonly id: string;
    readonly created?: string | undefined;
    readonly items?: number | undefined;
    readonly users?: number | undefined;
    readonly bytes?: number | undefined;
    readonly models?: readonly string[] | undefined;
    readonly problem?:
      | {
          readonly code: string;
          readonly message: string;
        }
      | undefined;
  }[];
  readonly quarantined: readonly {
    readonly id: string;
    readonly since?: string | undefined;
    readonly reason?: string | undefined;
  }[];
};

export type AdminRecallAnswer = {
  /** Of the searches; 0 where no samples are taken. */
  readonly share: number;
  readonly gap_ms: number;
  readonly generation: string | null;
  readonly all?:
    | {
        readonly samples: number;
        /** Mean recall, counted by score: what ties with the last exact hit is found. */
        readonly recall: number;
        /** 95 % interval of the mean. */
        readonly low: number;
        readonly high: number;
        /** Samples below what the calibration promises on average. */
        readonly below_expected: number;
        /** Mean of what the calibration promises. */
        readonly expected?: number | undefined;
      }
    | undefined;
  readonly by_path: Readonly<
    Record<
      string,
      {
        readonly samples: number;
        /** Mean recall, counted by score: what ties with the last exact hit is found. */
        readonly recall: number;
        /** 95 % interval of the mean. */
        readonly low: number;
        readonly high: number;
        /** Samples below what the calibration promises on average. */
        readonly below_expected: number;
        /** Mean of what the calibration promises. */
        readonly expected?: number | undefined;
      }
    >
  >;
  /** Samples without a measurement: no idle moment came, or the generation changed. */
  readonly dropped: number;
};

export type AdminGenerationsActivateAnswer = {
  readonly current: string;
  readonly serving: string | null;
  readonly problem?:
    | {
        readonly code: string;
        readonly message: string;
      }
    | undefined;
};

/** Every route: what it takes and what it answers. */
export interface Operations {
  'POST /retrieve': { body: RetrieveBody; answer: RetrieveAnswer };
  'POST /retrieve/batch': { body: RetrieveBatchBody; answer: RetrieveBatchAnswer };
  'POST /similar/items': { body: SimilarItemsBody; answer: SimilarItemsAnswer };
  'POST /similar/users': { body: SimilarUsersBody; answer: SimilarItemsAnswer };
  'PUT /items/{id}': { body: PutItemsBody; answer: PutItemsAnswer };
  'DELETE /items/{id}': { body: undefined; answer: PutItemsAnswer };
  'GET /healthz': { body: undefined; answer: unknown };
  'GET /readyz': { body: undefined; answer: unknown };
  'GET /metrics': { body: undefined; answer: unknown };
  'GET /models': { body: undefined; answer: ModelsAnswer };
  'GET /admin/generations/{id}/report': { body: undefined; answer: AdminGenerationsReportAnswer };
  'GET /admin/generations/{id}/report.svg': { body: undefined; answer: unknown };
  'POST /admin/rebuild': { body: PostAdminRebuildBody; answer: PostAdminRebuildAnswer };
  'GET /admin/rebuild': { body: undefined; answer: PostAdminRebuildAnswer };
  'DELETE /admin/rebuild': { body: undefined; answer: DeleteAdminRebuildAnswer };
  'GET /admin/generations': { body: undefined; answer: AdminGenerationsAnswer };
  'GET /admin/recall': { body: undefined; answer: AdminRecallAnswer };
  'POST /admin/generations/{id}/activate': { body: undefined; answer: AdminGenerationsActivateAnswer };
}
