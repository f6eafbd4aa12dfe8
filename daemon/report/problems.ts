/** What is wrong now. Each problem is logged once when it appears or changes, and once when it is over. */

import type { Check, CheckHead, Finding } from './check.ts';
import type { Logger } from './log.ts';
import { type ProblemHead, type ProblemKind, problemKinds } from './problem-catalogue.ts';

/** So many problems of a kind that come or go together are logged; of the rest, how many. */
const loggedAtMost = 10;

/** Something that is wrong now. */
export interface Problem extends Finding {
  readonly head: CheckHead;
  readonly isOwn: boolean;
  /** One line: what is wrong and what to do. */
  readonly message: string;
  readonly sinceMs: number;
}

export class Problems {
  /** By the name that the log has for it. */
  readonly #current = new Map<string, Problem>();
  readonly #logger: Logger;
  readonly #now: () => number;

  /** @param now milliseconds on a clock that does not go back */
  constructor(logger: Logger, now: () => number) {
    this.#logger = logger;
    this.#now = now;
  }

  /**
   * Reports a kind that there is one problem of at a time.
   * @param message what is wrong and what to do; undefined where nothing is
   * @param changes how a change of the message while the problem lasts is logged: etcd's troubles change theirs often
   */
  report(kind: ProblemKind, message: string | undefined, changes: 'warn' | 'debug' = 'warn'): void {
    const before = this.#current.get(kind);
    if (!this.#note(kind, problemKinds[kind], '', message)) return;
    if (message === undefined) this.#logEnd(kind, before!.sinceMs);
    else this.#logger[before ? changes : 'warn'](message);
  }

  /** Reports the problems of a kind as a whole: those of `messages`, and no others, are there now. */
  reportAll(kind: ProblemKind, messages: ReadonlyMap<string, string>): void {
    this.#replace(
      kind,
      problemKinds[kind],
      [...messages].map(([subject, message]) => ({ subject, message, facts: {} })),
    );
  }

  /** Reports everything that a check has found: nothing else of the check is wrong now. */
  reportFindings(check: CheckHead & Pick<Check, 'advice'>, findings: readonly Finding[]): void {
    this.#replace(
      check.code,
      { ...check, isOwn: true },
      findings.map((finding) => ({ ...finding, message: check.advice(finding) })),
    );
  }

  #replace(name: string, head: ProblemHead, found: readonly (Finding & { readonly message: string })[]): void {
    const named = new Map(found.map((finding) => [`${name} ${finding.subject}`, finding]));
    let ended = 0;
    for (const [key, { head: other, subject, sinceMs }] of [...this.#current]) {
      if (other.code !== head.code || named.has(key)) continue;
      this.#note(key, head, subject, undefined);
      if (ended++ < loggedAtMost) this.#logEnd(key, sinceMs);
    }
    if (ended > loggedAtMost) this.#logger.info(`${name}: ${ended - loggedAtMost} more are all right again`);
    let changed = 0;
    for (const [key, { subject, message, facts, sinceMs }] of named) {
      if (this.#note(key, head, subject, message, facts, sinceMs) && changed++ < loggedAtMost)
        this.#logger.warn(message);
    }
    if (changed > loggedAtMost) {
      this.#logger.warn(`${name}: ${changed - loggedAtMost} more have problems; weftctl status lists them`);
    }
  }

  /** @returns whether that is new */
  #note(
    key: string,
    head: ProblemHead,
    subject: string,
    message: string | undefined,
    facts: Finding['facts'] = {},
    foundMs = this.#now(),
  ): boolean {
    const before = this.#current.get(key);
    if (before?.message === message) return false;
    const sinceMs = before?.sinceMs ?? foundMs;
    if (message === undefined) this.#current.delete(key);
    else this.#current.set(key, { head, isOwn: head.isOwn, subject, message, facts, sinceMs });
    return true;
  }

  #logEnd(key: string, sinceMs: number): void {
    const seconds = Math.round((this.#now() - sinceMs) / 100) / 10;
    this.#logger.info(`${key}: all right again`, { afterSeconds: seconds });
  }

  has(kind: ProblemKind): boolean {
    return this.#current.has(kind);
  }

  /** In the order in which they came. */
  get all(): readonly Problem[] {
    return [...this.#current.values()];
  }

  /** The messages. @param except kinds that are left out */
  list(except: readonly ProblemKind[] = []): string[] {
    const left = new Set<string>(except.map((kind) => problemKinds[kind].code));
    return this.all.filter(({ head }) => !left.has(head.code)).map(({ message }) => message);
  }

  /** The messages of the problems that are this node's own. */
  ofThisNode(): string[] {
    return this.all.filter(({ isOwn }) => isOwn).map(({ message }) => message);
  }
}
