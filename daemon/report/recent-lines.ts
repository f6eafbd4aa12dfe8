/**
 * The last lines of weftd's log, for `weftctl logs`: the journal may be elsewhere, rotated or unreadable. It is bounded in
 * lines and in characters, because others cause many of the lines, and choose their lengths.
 */

import type { LogEntry, RecentLog } from '../../cluster/status.ts';

type NewEntry = Omit<LogEntry, 'number'>;

const mostLines = 1000;
const mostCharacters = 256 * 1024;
const longestText = 2048;

const shortened = (text: string): string =>
  text.length <= longestText ? text : `${text.slice(0, longestText - 3)}...`;

export class RecentLines {
  readonly #startedAt: string;
  #entries: { readonly entry: LogEntry; readonly size: number }[] = [];
  #size = 0;
  #next = 1;

  /** @param startedAt ISO 8601; tells this weftd's numbers from those of the one before */
  constructor(startedAt: string) {
    this.#startedAt = startedAt;
  }

  add({ time, level, message, fields }: NewEntry): void {
    const short = Object.fromEntries(
      Object.entries(fields).map(([key, value]) => [key, typeof value === 'string' ? shortened(value) : value]),
    );
    const entry: LogEntry = { number: this.#next++, time, level, message: shortened(message), fields: short };
    const size = JSON.stringify(entry).length;
    this.#entries.push({ entry, size });
    this.#size += size;
    let gone = 0;
    while (this.#entries.length - gone > mostLines || this.#size > mostCharacters)
      this.#size -= this.#entries[gone++]!.size;
    if (gone > 0) this.#entries = this.#entries.slice(gone);
  }

  /** @param number of the last line that is known; 0 for none */
  after(number: number): RecentLog {
    const entries = this.#entries.map(({ entry }) => entry).filter((entry) => entry.number > number);
    return { startedAt: this.#startedAt, entries };
  }
}
