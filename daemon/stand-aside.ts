/**
 * weftd begins its work when no flanneld runs on this host, and waits until then: neither undoes the other's work while
 * both are started, as in a rolling change of DaemonSets. The data path stays flanneld's meanwhile.
 */

import type { Clock, Timer } from '../cluster/clock.ts';

export interface StandAsideOptions {
  /** The process id of a flanneld on this host. */
  readonly find: () => number | undefined;
  /** Takes the reason of the wait, and undefined when it is over. */
  readonly report: (reason: string | undefined) => void;
  readonly begin: () => Promise<void>;
  readonly setTimer: Clock['setTimer'];
}

/** Looking costs one read of /proc for each process of the host. */
const pauseMs = 500;

const reason = (pid: number): string =>
  `flanneld runs on this host (process ${pid}), and weftd changes nothing until it has ended: stop its service ` +
  `("systemctl disable --now flanneld"), or delete its DaemonSet's pod`;

export class StandAside {
  readonly #options: StandAsideOptions;
  #timer: Timer | undefined;
  #hasBegun = false;
  #isClosed = false;

  constructor(options: StandAsideOptions) {
    this.#options = options;
  }

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Resolves when the work has begun, or has to wait. */
  async start(): Promise<void> {
    const { find, report, begin, setTimer } = this.#options;
    if (this.#isClosed) return;
    const pid = find();
    report(pid === undefined ? undefined : reason(pid));
    if (pid !== undefined) {
      this.#timer = setTimer(() => void this.start(), pauseMs);
      return;
    }
    this.#hasBegun = true;
    await begin();
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }
}
