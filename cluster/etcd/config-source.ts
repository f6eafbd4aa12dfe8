/** The network config at `<prefix>/config`. */

import type { Closable, ConfigSource, StoredConfig } from '../store.ts';
import type { EtcdCalls } from './calls.ts';
import type { rightsBelow } from './keys.ts';
import type { EtcdReader } from './reader.ts';
import { entryOf, get, isUnchanged, put } from './requests.ts';
import { toWholeEntry } from './snapshot.ts';

export class EtcdConfigSource implements ConfigSource {
  readonly kind = 'etcd';
  readonly #calls: EtcdCalls;
  readonly #reader: EtcdReader;
  readonly #rights: Pick<ReturnType<typeof rightsBelow>, 'readConfig' | 'writeConfig'>;

  constructor(
    calls: EtcdCalls,
    reader: EtcdReader,
    rights: Pick<ReturnType<typeof rightsBelow>, 'readConfig' | 'writeConfig'>,
  ) {
    this.#calls = calls;
    this.#reader = reader;
    this.#rights = rights;
  }

  get path(): string {
    return this.#rights.readConfig.key;
  }

  get place(): string {
    return `etcd key "${this.path}"`;
  }

  async read(): Promise<StoredConfig | undefined> {
    const config = this.#reader.isFollowed
      ? (await this.#reader.snapshot()).config
      : await this.#calls.get('read the network config', this.#rights.readConfig);
    return config && { text: config.value, version: config.modRevision };
  }

  watch(onWake: () => void): Closable {
    return this.#reader.follow({ of: 'config', onWake });
  }

  async write(text: string, expected?: string): Promise<boolean> {
    const right = this.#rights.writeConfig;
    const { key } = right;
    const transaction = {
      op: 'write the network config',
      subject: key,
      right,
      compare: expected === undefined ? [] : [isUnchanged(key, expected)],
      success: [put(key, text, '0')],
      failure: [get(key)],
    };
    const response = await this.#calls.transact(transaction);
    this.#reader.noteTransaction('config', transaction, response);
    // The first of two attempts may have taken effect without an answer.
    return response.succeeded || entryOf(response, toWholeEntry)?.value === text;
  }
}
