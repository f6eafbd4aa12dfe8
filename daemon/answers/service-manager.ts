/**
 * sd_notify(3), for a unit of `Type=notify`: tells systemd that weftd is ready, is alive, reloads or stops, and what it
 * does now.
 */

import { check, hasCode } from '../../linux/errors.ts';
import type { Sys } from '../../linux/sys.ts';
import { encodeUnixAddress, unix } from '../../linux/unix-socket.ts';

function socketAddress(sys: Sys, path: string): ArrayBuffer {
  if (!/^[/@]./.test(path)) throw new RangeError(`NOTIFY_SOCKET is "${path}": it must be a path, or a name after "@"`);
  return encodeUnixAddress(sys, path);
}

/**
 * Never waits for a service manager that is slow to read, because that would hold up weftd's work.
 * @throws SyscallError EAGAIN if it is slow; another code if nobody receives
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

/** The interval of the watchdog messages: half of the one in the environment (sd_watchdog_enabled(3)). */
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
  /** weftd's status in one line. */
  readonly status: () => string;
  /** Whether every task of weftd is alive. */
  readonly isAlive: () => boolean;
  /** Called once if nobody receives the messages. */
  readonly onError: (error: Error) => void;
}

/** The minimum time between two changes of the status. */
const statusPauseMs = 1000;
const retryMs = 200;
/** If nobody receives: the service manager may be restarting. */
const retriesAtMost = 50;
/** The longest queue, if nobody reads. */
const waitingAtMost = 50;

export class ServiceManager {
  readonly #options: ServiceManagerOptions;
  readonly #path: string;
  #waiting: string[] = [];
  #retries = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #statusTimer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setInterval> | undefined;
  #told = '';
  #failed = false;
  #closed = false;

  constructor(options: ServiceManagerOptions) {
    this.#options = options;
    this.#path = options.environment['NOTIFY_SOCKET'] ?? '';
  }

  start(): void {
    const { environment, sys, isAlive } = this.#options;
    if (this.#path === '') return;
    const intervalMs = watchdogIntervalMs(environment, sys.getpid());
    if (intervalMs !== undefined) {
      this.#watchdog = setInterval(() => {
        if (isAlive()) this.#tell('WATCHDOG=1');
      }, intervalMs);
    }
    this.statusMayHaveChanged();
  }

  ready(): void {
    this.#tell(this.#withStatus('READY=1'));
  }

  /** Ends with the next `ready`. */
  reloading(): void {
    // By the time, systemd tells this reload from an earlier one.
    this.#tell(`RELOADING=1\nMONOTONIC_USEC=${Math.floor(this.#options.monotonic() * 1000)}`);
  }

  /** The last message. */
  stopping(): void {
    this.#close();
    this.#tell('STOPPING=1\nSTATUS=stopping; the data path stays', true);
  }

  /** Sends the status soon, if it has changed. */
  statusMayHaveChanged(): void {
    if (this.#path === '' || this.#closed || this.#statusTimer) return;
    this.#statusTimer = setTimeout(() => {
      this.#statusTimer = undefined;
      const before = this.#told;
      const message = this.#withStatus();
      if (this.#told !== before) this.#tell(message);
    }, statusPauseMs);
  }

  #withStatus(...lines: string[]): string {
    this.#told = this.#options.status().replace(/\s+/g, ' ').slice(0, 500);
    return [...lines, `STATUS=${this.#told}`].join('\n');
  }

  #close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#statusTimer);
    clearInterval(this.#watchdog);
  }

  #tell(message: string, last = false): void {
    if (this.#path === '' || (this.#closed && !last)) return;
    // Only the newest watchdog message and the newest status matter.
    const [word] = /^(WATCHDOG|STATUS)=/.exec(message) ?? [];
    if (word !== undefined) this.#waiting = this.#waiting.filter((other) => !other.startsWith(word));
    if (this.#waiting.length < waitingAtMost) this.#waiting.push(message);
    // Queued messages go first, when their timer ends.
    if (!this.#retry || last) this.#sendWaiting();
  }

  #sendWaiting(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    try {
      for (let [message] = this.#waiting; message !== undefined; [message] = this.#waiting) {
        send(this.#options.sys, this.#path, message);
        this.#waiting.shift();
        this.#retries = 0;
      }
    } catch (error) {
      const isBehind = hasCode(error, 'EAGAIN');
      if (!this.#failed && !isBehind) {
        this.#failed = true;
        this.#options.onError(error as Error);
      }
      if (!isBehind) this.#retries++;
      if (this.#closed || this.#retries > retriesAtMost) this.#waiting = [];
      else this.#retry = setTimeout(() => this.#sendWaiting(), retryMs);
    }
  }
}
