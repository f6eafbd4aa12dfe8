/** Current problems. Each is logged once when it appears or changes, and once when it ends. */

import { excerpt } from '../../cluster/excerpt.ts';
import type { Check, CheckHead, Finding } from './check.ts';
import { LineBudget, type LineRate } from './line-budget.ts';
import type { Logger } from './log.ts';
import { type ProblemHead, type ProblemKind, problemKinds } from './problem-catalogue.ts';

/** This many problems of a kind are logged when they appear or end together; of the rest, only the number. */
const loggedAtMost = 10;
/** Lines of a kind with several problems: other nodes' entries may change without end. */
const severalLines: LineRate = { burst: 22, perMinute: 4 };
/** Of all kinds of other nodes' problems together. */
const othersLines: LineRate = { burst: 40, perMinute: 4 };
/** Lines of a kind with one problem, which may come and go without end, too. */
const oneLines: LineRate = { burst: 8, perMinute: 3 };

/** A current problem. */
export interface Problem extends Finding {
  readonly head: CheckHead;
  readonly isOwn: boolean;
  /** One line: what is wrong and what to do. */
  readonly message: string;
  readonly sinceMs: number;
}

export class Problems {
  /** By its name in the log. */
  readonly #current = new Map<string, Problem>();
  readonly #logger: Logger;
  /** By the name of a kind, or `others`. */
  readonly #budgets = new Map<string, LineBudget>();
  readonly #now: () => number;

  /** @param now milliseconds on a clock that does not go back */
  constructor(logger: Logger, now: () => number) {
    this.#logger = logger;
    this.#now = now;
  }

  /**
   * Reports the problem of a kind that has one problem at a time.
   * @param message what is wrong and what to do; undefined if nothing is wrong
   * @param changes the level for a changed message while the problem lasts: the store's problems change theirs often
   */
  report(kind: ProblemKind, message: string | undefined, changes: 'warn' | 'debug' = 'warn'): void {
    const before = this.#current.get(kind);
    if (!this.#note(kind, problemKinds[kind], '', message)) return;
    const level = message !== undefined && before ? changes : 'warn';
    if (level === 'warn' && !this.#mayLog(kind, problemKinds[kind], oneLines)) return;
    if (message === undefined) this.#logEnd(kind, before!.sinceMs);
    else this.#logger[level](message);
  }

  /** Replaces all problems of a kind by those of `messages`. */
  reportAll(kind: ProblemKind, messages: ReadonlyMap<string, string>): void {
    this.#replace(
      kind,
      problemKinds[kind],
      [...messages].map(([subject, message]) => ({ subject, message, facts: {} })),
    );
  }

  /** Replaces all problems of a check by its findings. */
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
      if (ended++ < loggedAtMost && this.#mayLog(name, head)) this.#logEnd(key, sinceMs);
    }
    if (ended > loggedAtMost && this.#mayLog(name, head))
      this.#logger.info(`${name}: ${ended - loggedAtMost} more are all right again`);
    let changed = 0;
    for (const [key, { subject, message, facts, sinceMs }] of named) {
      if (!this.#note(key, head, subject, message, facts, sinceMs)) continue;
      if (changed++ < loggedAtMost && this.#mayLog(name, head)) this.#logger.warn(message);
    }
    if (changed > loggedAtMost && this.#mayLog(name, head)) {
      this.#logger.warn(`${name}: ${changed - loggedAtMost} more have problems; weftctl status lists them`);
    }
  }

  /** Whether a line of the kind is within its budget. The first line beyond it says so. */
  #mayLog(name: string, { isOwn }: ProblemHead, rate = severalLines): boolean {
    let may = this.#budgetOf(name, rate).take();
    if (may === 'yes' && !isOwn) may = this.#budgetOf('others', othersLines).take();
    if (may === 'over') {
      this.#logger.warn(`${name}: too many changes to log all of them; weftctl status lists the problems`);
    }
    return may === 'yes';
  }

  #budgetOf(name: string, rate: LineRate): LineBudget {
    const known = this.#budgets.get(name);
    if (known) return known;
    const budget = new LineBudget(rate, this.#now);
    this.#budgets.set(name, budget);
    return budget;
  }

  /** @returns whether it is new */
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
    this.#logger.info(`${excerpt(key)}: all right again`, { afterSeconds: seconds });
  }

  /** Whether problems of some kind come and go faster than they are logged. */
  get isFlooded(): boolean {
    return [...this.#budgets.values()].some(({ isOver }) => isOver);
  }

  has(kind: ProblemKind): boolean {
    return this.#current.has(kind);
  }

  /** In the order of their appearance. */
  get all(): readonly Problem[] {
    return [...this.#current.values()];
  }

  /** The messages. @param except kinds to leave out */
  list(except: readonly ProblemKind[] = []): string[] {
    const left = new Set<string>(except.map((kind) => problemKinds[kind].code));
    return this.all.filter(({ head }) => !left.has(head.code)).map(({ message }) => message);
  }

  /** The messages of the problems that are this node's own. */
  ofThisNode(): string[] {
    return this.all.filter(({ isOwn }) => isOwn).map(({ message }) => message);
  }
}
