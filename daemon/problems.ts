/** What is wrong now. Each problem is logged once when it appears or changes, and once when it is over. */

import type { Logger } from './log.ts';

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
    if (message === undefined) {
      if (!before) return;
      this.current.delete(subject);
      const seconds = Math.round((this.now() - before.sinceMs) / 100) / 10;
      this.logger.info(`${subject}: all right again`, { afterSeconds: seconds });
      return;
    }
    if (before?.message === message) return;
    this.current.set(subject, { message, sinceMs: before?.sinceMs ?? this.now() });
    if (before) this.logger[changes](message);
    else this.logger.warn(message);
  }

  /** Reports the problems of a kind as a whole: those of `messages`, and no others, are there now. */
  reportAll(kind: string, messages: ReadonlyMap<string, string>): void {
    for (const subject of [...this.current.keys()]) {
      if (subject.startsWith(`${kind} `) && !messages.has(subject.slice(kind.length + 1))) {
        this.report(subject, undefined);
      }
    }
    for (const [subject, message] of messages) this.report(`${kind} ${subject}`, message);
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
