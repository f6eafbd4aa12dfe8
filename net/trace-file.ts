/** The plugins' trace: one line of JSON for each call that was asked to leave one. `weftctl trace` reads it. */

export const tracePath = (runDir: string): string => `${runDir}/trace`;

/** Where the older lines go when the file is full. */
export const olderTracePath = (runDir: string): string => `${runDir}/trace.1`;

/** The size at which a file is full. */
export const traceLimitBytes = 1024 * 1024;

/** No line is longer. */
export const traceLineLimitBytes = 4096;

/** Kinds of work, in the order in which an ADD comes to them first. */
export const traceStages = [
  'start',
  'namespaces',
  'node',
  'store',
  'network',
  'settings',
  'plugins',
  'answer',
] as const;
export type TraceStage = (typeof traceStages)[number];

/** All times are microseconds. */
export interface StageTimes {
  /** All of it. Of `start`, the processor's time. */
  readonly us: number;
  /** Of that, inside of system calls. */
  readonly kernelUs: number;
  /** How many of them. */
  readonly calls: number;
}

export interface TraceLine {
  /** When the call ended, in milliseconds since 1970. */
  readonly at: number;
  readonly command: string;
  readonly network: string;
  readonly container: string;
  readonly ifname: string;
  /** `ok`, or the code of the error. */
  readonly result: 'ok' | number;
  readonly us: number;
  readonly kernelUs: number;
  readonly stages: Readonly<Partial<Record<TraceStage, StageTimes>>>;
}
