/**
 * Follows the Nodes that a selector names: one list in pages, then a watch from there on, for ever. After a loss the watch
 * continues at the last known version. A new list is needed only where the API server has forgotten the changes since then
 * (410), which it has after each of its restarts.
 *
 * The API server sends a bookmark each minute. If nothing is heard for longer, the connection is dead without a word.
 */

import type { Clock, Random, Timer } from '../clock.ts';
import { defer } from '../deferred.ts';
import { excerpt } from '../excerpt.ts';
import { isObject } from '../lease.ts';
import { StoreError, StoreUnavailableError } from '../store-errors.ts';
import type { StoreObserver } from '../store-observer.ts';
import { accept, type Form, type KubeClient } from './client.ts';
import { BusyError, isAhead, isGone, type Operation, otherHistory, watchError } from './errors.ts';
import { isOlder, type NodeMeta } from './node-object.ts';
import { listInPages } from './node-pages.ts';

export interface FollowerOptions<T extends NodeMeta> {
  readonly client: Pick<KubeClient, 'ask' | 'follow'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly observer?: StoreObserver | undefined;
  /** Of one Node; all by default. */
  readonly name?: string;
  /** What the watch hands over. */
  readonly form: Form;
  /** What the next list hands over. */
  readonly listForm: () => Form;
  /** undefined: it is no Node. */
  readonly reduce: (object: unknown) => T | undefined;
  /**
   * The Nodes of a list, and no others. It may ask further questions before the watch begins.
   * @returns false if another list is needed, in the form that `listForm` says then
   */
  readonly onList: (nodes: readonly T[]) => Promise<boolean>;
  /** A change; called in order. */
  readonly onChange: (node: T, isDeleted: boolean) => void;
  /** The state is known from now on: after a list, and after a loss. */
  readonly onLive: () => void;
  /** Once for each loss of contact. */
  readonly onProblem: (error: StoreError) => void;
  /** Of the cluster: what all nodes do at one time is spread over a time that grows with it. */
  readonly size: () => number;
  readonly silenceMs: number;
  readonly maxBackoffMs: number;
}

/** The API server ends a watch after this time; each at a time of its own. */
const watchSeconds = { least: 300, most: 600 };
/** In a cluster of up to a hundred nodes; in a larger one a millisecond for each. */
const firstBackoffMs = 100;
/** A watch that lived this long was sound: after its loss the pauses start short again. */
const soundAfterMs = 5000;
/** Of all nodes that list everything at one time, one is let in each so many milliseconds. */
const perNodeMs = 4;
/** Pages of a list are kept for some minutes. A list that loses them begins anew so often. */
const listAttempts = 3;

export class NodeFollower<T extends NodeMeta> {
  readonly #options: FollowerOptions<T>;
  readonly #end = new AbortController();
  /** Up to which everything is known; undefined: list. */
  #version: string | undefined;
  #isLive = false;
  /** The server may have another history since the watch was lost. */
  #isUnproved = false;
  /** Why nothing is known; undefined before the first attempt has ended. */
  #failure: StoreError | undefined;
  /** The outcome of the current attempt, or of the next one. */
  #attempt = defer<void>();
  #endPause: (() => void) | undefined;
  /** Ends the current watch, which is then begun anew. */
  #endWatch: (() => void) | undefined;

  constructor(options: FollowerOptions<T>) {
    this.#options = options;
    void this.#run();
  }

  /** Up to which everything is known. */
  get version(): string | undefined {
    return this.#version;
  }

  /** Resolves once the state is known. @throws StoreError: the attempt failed, or the last one did */
  fresh(): Promise<void> {
    if (this.#isLive) return Promise.resolve();
    return this.#endPause && this.#failure ? Promise.reject(this.#failure) : this.#attempt.promise;
  }

  /** The connection is of no use any more. */
  reconnect(): void {
    this.#endWatch?.();
    this.#endPause?.();
  }

  close(): void {
    this.#end.abort();
    this.#endPause?.();
    this.#attempt.reject(new Error('The watch is closed'));
  }

  get #isClosed(): boolean {
    return this.#end.signal.aborted;
  }

  async #run(): Promise<void> {
    const { clock, observer } = this.#options;
    let failures = 0;
    let isReported = false;
    while (!this.#isClosed) {
      let startedMs: number | undefined;
      let error: StoreError | undefined;
      try {
        if (this.#version !== undefined && this.#isUnproved) await this.#prove(this.#version);
        this.#version ??= await this.#list();
        this.#isUnproved = false;
        if (this.#isClosed) return;
        await this.#watch(this.#version, () => {
          startedMs = clock.nowMs();
          isReported = false;
          observer?.watchStarted();
          this.#live();
        });
      } catch (thrown) {
        error = this.#told(thrown);
        this.#isUnproved = true;
      }
      if (this.#isClosed) return;
      if (startedMs !== undefined) observer?.watchLost();
      const livedMs = startedMs === undefined ? 0 : clock.nowMs() - startedMs;
      if (livedMs >= soundAfterMs) failures = 0;
      // The server ends each watch after some minutes, and it may be restarted at any time: there is nothing to tell.
      if (error === undefined && failures === 0 && livedMs >= soundAfterMs) continue;
      failures++;
      let waitMs = this.#backoffMs(failures, error);
      // A server that lags behind needs a moment only; one that is still behind then has another history.
      if (isGone(error) || (failures > 1 && isAhead(error))) {
        observer?.watchResync();
        this.#version = undefined;
        // Everybody's watch has been forgotten at the same instant.
        waitMs = Math.max(failures > 1 ? waitMs : 0, this.#options.random() * this.#options.size() * perNodeMs);
      } else if (error !== undefined && (startedMs === undefined || failures > 1)) {
        // The loss of a watch is no problem yet: the next attempt shows whether the API server answers.
        this.#lost(error, isReported);
        isReported = true;
      }
      await this.#pause(waitMs);
    }
  }

  /** An answer that nobody can read may be a proxy's. */
  #told(error: unknown): StoreError {
    if (error instanceof StoreError) return error;
    const { op, subject } = this.#operation('watch');
    const message = `Cannot ${op}: the answer cannot be read: ${excerpt((error as Error).message)}`;
    return new StoreUnavailableError({ code: 'unavailable', op, subject, message, cause: error });
  }

  #live(): void {
    this.#isLive = true;
    this.#failure = undefined;
    this.#attempt.resolve();
    this.#attempt = defer();
    this.#options.onLive();
  }

  #lost(error: StoreError, isReported: boolean): void {
    this.#failure = error;
    this.#isLive = false;
    const attempt = this.#attempt;
    this.#attempt = defer();
    attempt.reject(error);
    if (!isReported) this.#options.onProblem(error);
  }

  /** All nodes of a cluster lose the API server at the same instant, but must not return at the same instant. */
  #backoffMs(failures: number, error: unknown): number {
    const { maxBackoffMs, random, size } = this.#options;
    const first = Math.max(firstBackoffMs, size());
    const most = Math.max(maxBackoffMs, size() * perNodeMs);
    const backoffMs = Math.min(first * 2 ** Math.min(failures - 1, 20), most) * (0.5 + random() / 2);
    const wished = error instanceof BusyError ? error.retryAfterMs : undefined;
    return wished === undefined ? backoffMs : Math.max(backoffMs, wished * (1 + random() / 2));
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const end = (): void => {
        timer?.cancel();
        this.#endPause = undefined;
        resolve();
      };
      timer = this.#options.clock.setTimer(end, ms);
      this.#endPause = end;
    });
  }

  get #selector(): string {
    const { name } = this.#options;
    return name === undefined ? '' : `&fieldSelector=${encodeURIComponent(`metadata.name=${name}`)}`;
  }

  #operation(verb: 'list' | 'watch'): Operation {
    const { name } = this.#options;
    const isOwn = name !== undefined;
    return {
      word: `${verb}_${isOwn ? 'node' : 'nodes'}`,
      op: `${verb} ${isOwn ? `the Node "${name}"` : 'the Nodes'}`,
      subject: name ?? 'nodes',
      right: { resource: 'nodes', verb },
    };
  }

  /**
   * A watch from a version that the server does not have yet is silent, without a word. So it is after a restore from a
   * backup: then everything is listed anew. @throws StoreError
   */
  async #prove(version: string): Promise<void> {
    const { client, observer } = this.#options;
    const path = `/api/v1/nodes?limit=1${this.#selector}`;
    const page = await client.ask({ operation: this.#operation('list'), path, accept: accept.list.metadata });
    const { metadata } = isObject(page) ? page : {};
    const now = isObject(metadata) ? metadata['resourceVersion'] : undefined;
    if (typeof now !== 'string' || !isOlder(now, version)) return;
    observer?.watchResync();
    this.#version = undefined;
  }

  /** @returns the version that the watch can begin at @throws StoreError */
  async #list(): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      try {
        const version = await this.#listOnce();
        if (version !== undefined) return version;
      } catch (error) {
        // The pages that were left are forgotten.
        if (!isGone(error) || attempt === listAttempts) throw error;
      }
    }
  }

  async #listOnce(): Promise<string | undefined> {
    const { client, listForm, reduce, onList } = this.#options;
    const form = listForm();
    const operation = this.#operation('list');
    const nodes: T[] = [];
    const version = await listInPages(client, { operation, form, selector: this.#selector }, (object) => {
      const node = reduce(object);
      if (node) nodes.push(node);
    });
    return (await onList(nodes)) ? version : undefined;
  }

  /** Returns when the server has ended the watch. @throws StoreError */
  async #watch(from: string, onStart: () => void): Promise<void> {
    const { client, random, form, silenceMs } = this.#options;
    const operation = this.#operation('watch');
    const { least, most } = watchSeconds;
    const seconds = Math.round(least + random() * (most - least));
    const path = `/api/v1/nodes?watch=true&allowWatchBookmarks=true&resourceVersion=${encodeURIComponent(from)}&timeoutSeconds=${seconds}${this.#selector}`;
    const current = new AbortController();
    this.#endWatch = () => current.abort();
    try {
      await client.follow(
        { operation, path, accept: accept.object[form] },
        {
          onStart,
          silenceMs,
          signal: AbortSignal.any([current.signal, this.#end.signal]),
          onLine: (line) => this.#take(operation, line),
        },
      );
    } catch (error) {
      // Asked for.
      if (!current.signal.aborted) throw error;
    } finally {
      this.#endWatch = undefined;
    }
  }

  #take(operation: Operation, line: string): void {
    if (this.#isClosed) return;
    const event: unknown = JSON.parse(line);
    const { type, object } = isObject(event) ? event : {};
    if (type === 'ERROR') throw watchError(operation, object);
    const { metadata } = isObject(object) ? object : {};
    const version = isObject(metadata) ? metadata['resourceVersion'] : undefined;
    // Versions of a watch only grow.
    if (typeof version === 'string' && isOlder(version, this.#version ?? '0')) throw otherHistory(operation);
    if (type !== 'BOOKMARK') {
      const node = this.#options.reduce(object);
      if (node) {
        this.#options.observer?.watchEvent(1);
        this.#options.onChange(node, type === 'DELETED');
      }
    }
    if (typeof version === 'string') this.#version = version;
  }
}
