/**
 * The trace of one call: `"trace": true` in the configuration, or WEFT_TRACE=1, has it leave a line in the run folder. Only
 * then is this file loaded. It puts a clock around each system call. A call belongs to a stage by what it acts on, and the
 * program's own time to the stage of the call that comes next.
 *
 * The file's path never comes from the environment. A trace that cannot be written changes nothing about the call.
 */

import type { Sys } from '../linux/sys.ts';
import { clock, flock, open, stat } from '../linux/sys.ts';
import { defaultPaths } from '../net/paths.ts';
import {
  olderTracePath,
  type StageTimes,
  type TraceLine,
  type TraceStage,
  traceLimitBytes,
  tracePath,
  traceStages,
} from '../net/trace-file.ts';
import { lookUp } from './spec/keys.ts';
import type { CniRequest, JsonObject } from './spec/request.ts';

/** Names longer than this are cut, so that a line is short. */
const shownCharacters = 64;
/** An error document's code is found in so many bytes. */
const answerLimitBytes = 4096;

type Name = Exclude<keyof Sys, 'argv'>;
const socketCalls: readonly Name[] = ['bind', 'setsockopt', 'sendto', 'recv', 'clone_sendto', 'waitpid'];
const descriptorCalls: readonly Name[] = ['close', 'read', 'write', 'fsync', 'ftruncate', 'flock', 'poll', 'fstat'];
const pathCalls: readonly Name[] = ['mkdir', 'rmdir', 'unlink', 'rename', 'link', 'utimensat', 'readlink', 'stat'];

interface Sum {
  us: number;
  kernelUs: number;
  calls: number;
}

class Stages {
  readonly #sums = new Map<TraceStage, Sum>();
  readonly #descriptors = new Map<unknown, TraceStage>([
    [0, 'start'],
    [1, 'answer'],
    [2, 'answer'],
  ]);
  readonly #netns: string;
  readonly #runDir: string;

  constructor(netns: string, runDir: string) {
    this.#netns = netns;
    this.#runDir = runDir;
  }

  add(stage: TraceStage, programUs: number, kernelUs: number, calls = 1): void {
    const sum = this.#sums.get(stage) ?? { us: 0, kernelUs: 0, calls: 0 };
    sum.us += programUs + kernelUs;
    sum.kernelUs += kernelUs;
    sum.calls += calls;
    this.#sums.set(stage, sum);
  }

  #ofPath(path: unknown): TraceStage {
    const text = String(path);
    if (text === this.#netns || text.includes('/ns/')) return 'namespaces';
    if (text.startsWith('/proc/sys/net/')) return 'settings';
    return text.startsWith(`${this.#runDir}/`) || text.endsWith('/subnet.env') ? 'node' : 'store';
  }

  /** The stage of a call, by its result, too: a descriptor belongs to the stage in which it was opened. */
  of(name: Name, [first]: readonly unknown[], result: unknown): TraceStage | undefined {
    if (name === 'open') {
      const stage = this.#ofPath(first);
      this.#descriptors.set(result, stage);
      return stage;
    }
    if (name === 'socket') {
      this.#descriptors.set(result, 'network');
      return 'network';
    }
    if (socketCalls.includes(name)) return 'network';
    if (descriptorCalls.includes(name)) return this.#descriptors.get(first) ?? 'store';
    if (pathCalls.includes(name)) return this.#ofPath(first);
    if (name === 'getdents') return 'store';
    if (name === 'setns') return 'namespaces';
    return name === 'spawn' ? 'plugins' : undefined;
  }

  /** In whole microseconds, in the order of the list. */
  toLine(): TraceLine['stages'] {
    const rounded = ({ us, kernelUs, calls }: Sum): StageTimes => ({
      us: Math.round(us),
      kernelUs: Math.round(kernelUs),
      calls,
    });
    return Object.fromEntries(
      traceStages.flatMap((stage) => {
        const sum = this.#sums.get(stage);
        return sum ? [[stage, rounded(sum)] as const] : [];
      }),
    );
  }
}

function runDirOf(configuration: JsonObject): string {
  const ipam = lookUp(configuration, 'ipam');
  const inner = typeof ipam === 'object' && ipam !== null && !Array.isArray(ipam) ? (ipam as JsonObject) : {};
  const path = lookUp(inner, 'runDir') ?? lookUp(configuration, 'runDir');
  return typeof path === 'string' && path.startsWith('/') ? path : defaultPaths.runDir;
}

/** The code in the error document of a call that failed. */
function resultOf(status: number, answer: string): TraceLine['result'] {
  if (status === 0) return 'ok';
  const code = /"code": ?(\d{1,9})\b/.exec(answer)?.[1];
  return code === undefined ? status : Number(code);
}

/** Opens the file for one more line, and puts a full one aside. @returns a negative number where that is impossible */
function openTrace(sys: Sys, runDir: string, lineBytes: number): number {
  sys.mkdir(runDir, 0o755);
  const path = tracePath(runDir);
  const flags = open.O_WRONLY | open.O_APPEND | open.O_CREAT | open.O_NOFOLLOW | open.O_NONBLOCK;
  for (let attempt = 0; attempt < 3; attempt++) {
    const fd = sys.open(path, flags, 0o600);
    if (fd < 0) return fd;
    const status = sys.fstat(fd);
    if (typeof status === 'number' || (status.mode & stat.S_IFMT) !== stat.S_IFREG) {
      sys.close(fd);
      return -1;
    }
    if (status.size + lineBytes <= traceLimitBytes) return fd;
    // One call moves the file. The others find another one there, or write into the full one.
    if (sys.flock(fd, flock.LOCK_EX | flock.LOCK_NB) !== 0) return fd;
    const now = sys.stat(path);
    if (typeof now !== 'number' && now.ino === status.ino && now.dev === status.dev) {
      sys.rename(path, olderTracePath(runDir));
    }
    sys.close(fd);
  }
  return -1;
}

function append(sys: Sys, runDir: string, line: TraceLine): void {
  const bytes = sys.encodeUtf8(`${JSON.stringify(line)}\n`);
  const fd = openTrace(sys, runDir, bytes.byteLength);
  if (fd < 0) return;
  // In one call, so that lines of calls at the same time do not mix.
  sys.write(fd, bytes, 0, bytes.byteLength);
  sys.close(fd);
}

/** Puts the clock around the calls of `sys` from here on. The line is written when the program ends. */
export function startTrace(sys: Sys, request: CniRequest): void {
  const { command, network, containerId, ifname, netns, configuration } = request;
  const runDir = runDirOf(configuration);
  const stages = new Stages(netns, runDir);
  const real: Sys = { ...sys };
  const nowUs = (): number => real.clock_gettime(clock.CLOCK_MONOTONIC) * 1000;
  const startUs = Math.max(0, real.clock_gettime(clock.CLOCK_PROCESS_CPUTIME_ID) * 1000);
  stages.add('start', startUs, 0, 0);
  let answer = '';
  const began = nowUs();
  let last = began;

  const calls = sys as unknown as Record<string, unknown>;
  const wrapped = [...socketCalls, ...descriptorCalls, ...pathCalls, 'open', 'socket', 'getdents', 'setns', 'spawn'];
  for (const name of wrapped as Name[]) {
    const call = real[name] as (...args: readonly unknown[]) => unknown;
    calls[name] = (...args: readonly unknown[]): unknown => {
      const before = nowUs();
      const result = call(...args);
      const after = nowUs();
      const stage = stages.of(name, args, result);
      if (stage) stages.add(stage, before - last, after - before);
      last = nowUs();
      return result;
    };
  }
  const { write } = sys;
  sys.write = (fd, buffer, offset, length) => {
    if (fd === 1 && answer === '') answer = real.decodeUtf8(buffer, offset, Math.min(length, answerLimitBytes));
    return write(fd, buffer, offset, length);
  };
  sys.exit = (status) => {
    try {
      const us = startUs + nowUs() - began;
      const times = stages.toLine();
      append(real, runDir, {
        at: Math.round(real.clock_gettime(clock.CLOCK_REALTIME)),
        command,
        network: network.slice(0, shownCharacters),
        container: containerId.slice(0, shownCharacters),
        ifname,
        result: resultOf(status, answer),
        us: Math.round(us),
        kernelUs: Object.values(times).reduce((sum, { kernelUs }) => sum + kernelUs, 0),
        stages: times,
      });
    } catch {
      // The call has ended well or badly by itself.
    }
    return real.exit(status);
  };
}
