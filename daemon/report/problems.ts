/** What is wrong now. Each problem is logged once when it appears or changes, and once when it is over. */

import type { Logger } from './log.ts';

/** So many problems of a kind that come or go together are logged; of the rest, how many. */
const loggedAtMost = 10;

export class Problems {
  private readonly current = new Map<string, { message: string; sinceMs: number }>();
  private readonly logger: Logger;
  private readonly now: () => number;

  /** @param now milliseconds on a clock that does not go back */
  constructor(logger: Logger, now: () => number) {
    this.logger = logger;
    this.now = now;
  }

  /**
   * @param subject what the problem is about; one at a time a subject
   * @param message what is wrong and what to do; undefined where nothing is
   * @param changes how a change of the message while the problem lasts is logged: etcd's troubles change theirs often
   */
  report(subject: string, message: string | undefined, changes: 'warn' | 'debug' = 'warn'): void {
    const before = this.current.get(subject);
    if (!this.note(subject, message)) return;
    if (message === undefined) this.logEnd(subject, before!.sinceMs);
    else this.logger[before ? changes : 'warn'](message);
  }

  /** Reports the problems of a kind as a whole: those of `messages`, and no others, are there now. */
  reportAll(kind: string, messages: ReadonlyMap<string, string>): void {
    const subjects = new Map([...messages].map(([subject, message]) => [`${kind} ${subject}`, message]));
    let ended = 0;
    for (const [subject, { sinceMs }] of [...this.current]) {
      if (!subject.startsWith(`${kind} `) || subjects.has(subject)) continue;
      this.note(subject, undefined);
      if (ended++ < loggedAtMost) this.logEnd(subject, sinceMs);
    }
    if (ended > loggedAtMost) this.logger.info(`${kind}: ${ended - loggedAtMost} more are all right again`);
    let changed = 0;
    for (const [subject, message] of subjects) {
      if (this.note(subject, message) && changed++ < loggedAtMost) this.logger.warn(message);
    }
    if (changed > loggedAtMost) {
      this.logger.warn(`${kind}: ${changed - loggedAtMost} more have problems; weftctl status lists them`);
    }
  }

  /** @returns whether that is new */
  private note(subject: string, message: string | undefined): boolean {
    const before = this.current.get(subject);
    if (before?.message === message) return false;
    if (message === undefined) this.current.delete(subject);
    else this.current.set(subject, { message, sinceMs: before?.sinceMs ?? this.now() });
    return true;
  }

  private logEnd(subject: string, sinceMs: number): void {
    const seconds = Math.round((this.now() - sinceMs) / 100) / 10;
    this.logger.info(`${subject}: all right again`, { afterSeconds: seconds });
  }

  has(subject: string): boolean {
    return this.current.has(subject);
  }

  /** @param except kinds (`reportAll`) that are left out */
  list(except: readonly string[] = []): string[] {
    return [...this.current]
      .filter(([subject]) => !except.some((kind) => subject.startsWith(`${kind} `)))
      .map(([, { message }]) => message);
  }
}
