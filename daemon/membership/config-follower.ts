/** Follows the network config. A bad one is reported, and the last good one stays in force. */

import type { BackendConfig, BackendFormats } from '../../cluster/backend-format.ts';
import { ConfigError } from '../../cluster/config-section.ts';
import { families, isOtherBackend, type NetworkConfig, parseNetworkConfig } from '../../cluster/network-config.ts';
import type { ConfigSource } from '../../cluster/store.ts';
import { StoreRefusedError } from '../../cluster/store-errors.ts';
import { formatPrefix } from '../../net/prefix.ts';
import { spreadMs } from '../pace/spread.ts';
import type { Logger } from '../report/log.ts';
import type { Problems } from '../report/problems.ts';

/** A good config, and the text that it was read from. */
export interface GoodConfig {
  readonly text: string;
  readonly value: NetworkConfig;
  readonly backend: BackendConfig;
}

export interface ConfigFollowerOptions {
  readonly source: Pick<ConfigSource, 'kind' | 'path' | 'place' | 'read' | 'isFile'>;
  /** Those that weftd runs. */
  readonly backends: BackendFormats;
  readonly logger: Logger;
  readonly problems: Problems;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
}

export class ConfigFollower {
  readonly #options: ConfigFollowerOptions;
  #good: GoodConfig | undefined;
  /** The text that was looked at last, good or bad. */
  #text: string | undefined;
  /** A new config that is not taken up yet, and when it is. */
  #awaited: { readonly text: string; readonly atMs: number } | undefined;

  constructor(options: ConfigFollowerOptions) {
    this.#options = options;
  }

  /** When to adopt a new config; infinite if none waits. */
  get dueMs(): number {
    return this.#awaited?.atMs ?? Number.POSITIVE_INFINITY;
  }

  /**
   * @param nodes in the cluster. With another config each of many takes it up at a time of its own.
   * @param isFirst no config is in use yet, so that none is to be waited for
   * @returns the config to go by; undefined where there never was a good one
   * @throws StoreError
   */
  async follow(nodes: number, isFirst: boolean): Promise<GoodConfig | undefined> {
    const { source, problems } = this.#options;
    const stored = await source.read().catch((error: unknown) => {
      // A source that is apart from the store has problems of its own.
      if (!source.isFile || !(error instanceof StoreRefusedError)) throw error;
      problems.report('network config', `${error.message}${this.#kept}`);
      return 'unreadable' as const;
    });
    if (stored === 'unreadable') return this.#good;
    if (!this.#mustAwait(stored?.text, nodes, isFirst)) this.#take(stored?.text);
    return this.#good;
  }

  /** A new config may make every node claim, or write its lease again. */
  #mustAwait(text: string | undefined, nodes: number, isFirst: boolean): boolean {
    if (text === undefined || text === this.#text || isFirst) {
      this.#awaited = undefined;
      return false;
    }
    const { monotonic, random } = this.#options;
    const nowMs = monotonic();
    if (this.#awaited?.text !== text) this.#awaited = { text, atMs: nowMs + spreadMs(nodes, random) };
    if (nowMs < this.#awaited.atMs) return true;
    this.#awaited = undefined;
    return false;
  }

  get #kept(): string {
    return this.#good ? '; the last good one stays in force' : '; waiting for a better one';
  }

  #take(text: string | undefined): void {
    const { problems, source, backends, logger } = this.#options;
    const report = (problem: string | undefined): void => problems.report('network config', problem);
    const kept = this.#kept;
    if (text === undefined) {
      this.#text = undefined;
      const example = '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}';
      if (source.isFile) {
        const again = this.#good ? `${kept}; write it again: ${this.#good.text}` : `; write one, such as ${example}`;
        report(`There is no network config: no ${source.place}${again}`);
        return;
      }
      const advice = this.#good
        ? `${kept}; write it again: weftctl config set '${this.#good.text}'`
        : `; write one: weftctl config set '${example}'`;
      report(`No network config in ${source.kind} at "${source.path}"${advice}`);
      return;
    }
    if (text === this.#text) return;
    this.#text = text;
    let value: NetworkConfig;
    try {
      value = parseNetworkConfig(text, backends);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      report(`${error.message} (${source.place})${kept}`);
      return;
    }
    const { backend } = value;
    if (isOtherBackend(backend)) {
      report(
        `Network config: weftd cannot run backend "${backend.name}"; it runs ${[...backends.keys()].join(', ')} (${source.place})${kept}`,
      );
      return;
    }
    report(value.problem);
    if (this.#good?.text !== text) {
      const networks = families.flatMap((family) => value.networks[family]?.network ?? []);
      logger.info('network config', { networks: networks.map(formatPrefix).join(', '), backend: backend.type });
    }
    this.#good = { text, value, backend };
  }
}
