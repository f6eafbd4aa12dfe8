export interface Count {
  readonly passed: number;
  readonly failed: number;
}

export interface Job {
  readonly part: string;
  readonly name: string;
  readonly run: () => Promise<Count>;
  readonly after?: readonly string[];
  readonly alone?: boolean;
}

export function runInLanes(
  jobs: readonly Job[],
  options: {
    readonly lanes: number;
    readonly started?: (job: Job) => void;
    readonly ended: (done: Job & { readonly count: Count; readonly seconds: number }) => void;
  },
): Promise<void>;
