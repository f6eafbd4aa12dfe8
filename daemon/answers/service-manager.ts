/**
 * sd_notify(3): tells systemd that weftd is ready, what it does, that it is alive, that it looks at everything again and
 * that it stops, where the unit is of `Type=notify`.
 */

import { check, hasCode } from '../../linux/errors.ts';
import type { Sys } from '../../linux/sys.ts';
import { encodeUnixAddress, unix } from '../../linux/unix-socket.ts';

function socketAddress(sys: Sys, path: string): ArrayBuffer {
  if (!/^[/@]./.test(path)) throw new RangeError(`NOTIFY_SOCKET is "${path}": it must be a path, or a name after "@"`);
  return encodeUnixAddress(sys, path);
}

/**
 * Does not wait where the service manager is behind with reading: the loop is worth more than a word about it.
 * @throws SyscallError EAGAIN where it is; another where nobody takes it
 */
function send(sys: Sys, path: string, state: string): void {
  const fd = check(sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), 'open a socket for NOTIFY_SOCKET');
  try {
    const message = sys.encodeUtf8(state);
    check(
      sys.sendto(fd, message, 0, message.byteLength, unix.MSG_DONTWAIT, socketAddress(sys, path)),
      `tell "${state}" to NOTIFY_SOCKET "${path}"`,
    );
  } finally {
    sys.close(fd);
  }
}

/** The time between two signs of life, by the environment (sd_watchdog_enabled(3)): half of what is asked for. */
export function watchdogIntervalMs(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): number | undefined {
  const { WATCHDOG_USEC: text, WATCHDOG_PID: owner } = environment;
  if (text === undefined || !/^[1-9]\d{0,17}$/.test(text)) return undefined;
  if (owner !== undefined && owner !== '' && owner !== String(pid)) return undefined;
  return Math.min(Number(text) / 2000, 2 ** 31 - 1);
}

export interface ServiceManagerOptions {
  readonly sys: Sys;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Milliseconds on the clock that the kernel calls monotonic. */
  readonly monotonic: () => number;
  /** One line: what weftd does now. */
  readonly status: () => string;
  /** Whether the loop is alive. */
  readonly isAlive: () => boolean;
  /** Nobody takes what is told; called once. */
  readonly onError: (error: Error) => void;
}

/** At most so often. */
const statusPauseMs = 1000;
const retryMs = 200;
/** Where nobody takes anything: it may be started again meanwhile. */
const retriesAtMost = 50;
/** Where nobody reads. */
const waitingAtMost = 50;

export class ServiceManager {
  private readonly options: ServiceManagerOptions;
  private readonly path: string;
  private waiting: string[] = [];
  private retries = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private statusTimer: ReturnType<typeof setTimeout> | undefined;
  private watchdog: ReturnType<typeof setInterval> | undefined;
  private told = '';
  private failed = false;
  private closed = false;

  constructor(options: ServiceManagerOptions) {
    this.options = options;
    this.path = options.environment['NOTIFY_SOCKET'] ?? '';
  }

  start(): void {
    const { environment, sys, isAlive } = this.options;
    if (this.path === '') return;
    const intervalMs = watchdogIntervalMs(environment, sys.getpid());
    if (intervalMs !== undefined) {
      this.watchdog = setInterval(() => {
        if (isAlive()) this.tell('WATCHDOG=1');
      }, intervalMs);
    }
    this.statusMayHaveChanged();
  }

  ready(): void {
    this.tell(this.withStatus('READY=1'));
  }

  /** Until `ready` is said again. */
  reloading(): void {
    // systemd wants the time, to tell this reload from an earlier one.
    this.tell(`RELOADING=1\nMONOTONIC_USEC=${Math.floor(this.options.monotonic() * 1000)}`);
  }

  /** Nothing else is said after it. */
  stopping(): void {
    this.close();
    this.tell('STOPPING=1\nSTATUS=stopping; the data path stays', true);
  }

  /** Tells it soon, if it has. */
  statusMayHaveChanged(): void {
    if (this.path === '' || this.closed || this.statusTimer) return;
    this.statusTimer = setTimeout(() => {
      this.statusTimer = undefined;
      const before = this.told;
      const message = this.withStatus();
      if (this.told !== before) this.tell(message);
    }, statusPauseMs);
  }

  private withStatus(...lines: string[]): string {
    this.told = this.options.status().replace(/\s+/g, ' ').slice(0, 500);
    return [...lines, `STATUS=${this.told}`].join('\n');
  }

  private close(): void {
    this.closed = true;
    clearTimeout(this.retry);
    clearTimeout(this.statusTimer);
    clearInterval(this.watchdog);
  }

  private tell(message: string, last = false): void {
    if (this.path === '' || (this.closed && !last)) return;
    // The newest sign of life and the newest status are enough.
    const [word] = /^(WATCHDOG|STATUS)=/.exec(message) ?? [];
    if (word !== undefined) this.waiting = this.waiting.filter((other) => !other.startsWith(word));
    if (this.waiting.length < waitingAtMost) this.waiting.push(message);
    // What waits already goes first, by its timer.
    if (!this.retry || last) this.sendWaiting();
  }

  private sendWaiting(): void {
    clearTimeout(this.retry);
    this.retry = undefined;
    try {
      for (let [message] = this.waiting; message !== undefined; [message] = this.waiting) {
        send(this.options.sys, this.path, message);
        this.waiting.shift();
        this.retries = 0;
      }
    } catch (error) {
      const isBehind = hasCode(error, 'EAGAIN');
      if (!this.failed && !isBehind) {
        this.failed = true;
        this.options.onError(error as Error);
      }
      if (!isBehind) this.retries++;
      if (this.closed || this.retries > retriesAtMost) this.waiting = [];
      else this.retry = setTimeout(() => this.sendWaiting(), retryMs);
    }
  }
}
