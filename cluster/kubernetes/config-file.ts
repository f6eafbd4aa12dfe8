/**
 * The network config in a file, as a ConfigMap brings it into a pod: kubelet replaces a symbolic link beside it, so the
 * folder is watched. The file is also read from time to time, since a file system need not tell of every change.
 */

import { type FSWatcher, watch as watchFolder } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock, Timer } from '../clock.ts';
import type { Closable, ConfigSource, StoredConfig } from '../store.ts';
import { StoreRefusedError } from '../store-errors.ts';

/** A network config has some hundred bytes. */
const longestBytes = 1 << 20;
/** kubelet makes several changes for one update. */
const settleMs = 50;

export interface ConfigFileOptions {
  readonly path: string;
  readonly clock: Clock;
  /** How often to look although nothing was heard. */
  readonly everyMs?: number;
}

export class ConfigFile implements ConfigSource {
  readonly kind = 'file';
  readonly isFile = true;
  readonly path: string;
  readonly #clock: Clock;
  readonly #everyMs: number;
  #last: StoredConfig | undefined;

  constructor({ path, clock, everyMs = 10_000 }: ConfigFileOptions) {
    this.path = path;
    this.#clock = clock;
    this.#everyMs = everyMs;
  }

  get place(): string {
    return `file "${this.path}"`;
  }

  async read(): Promise<StoredConfig | undefined> {
    const text = await this.#text();
    if (text === undefined) return undefined;
    if (text !== this.#last?.text) this.#last = { text, version: String(Number(this.#last?.version ?? 0) + 1) };
    return this.#last;
  }

  /** undefined: there is no file. @throws StoreRefusedError */
  async #text(): Promise<string | undefined> {
    const fail = (because: string, cause?: unknown) =>
      new StoreRefusedError({
        code: 'refused',
        op: 'read the network config',
        subject: this.path,
        message: `Cannot read the network config "${this.path}" (--net-config-path): ${because}`,
        cause,
      });
    try {
      const status = await stat(this.path);
      // To open a FIFO would take until somebody writes to it.
      if (!status.isFile()) throw fail('it is no file');
      if (status.size > longestBytes) throw fail(`it has ${status.size} bytes; at most ${longestBytes} are read`);
      return await readFile(this.path, 'utf8');
    } catch (error) {
      if (error instanceof StoreRefusedError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      throw fail(code ?? String(error), error);
    }
  }

  watch(onWake: () => void): Closable {
    let isClosed = false;
    let settling: Timer | undefined;
    let folder: FSWatcher | undefined;
    let timer: Timer | undefined;
    let seen: string | undefined;
    const heard = (): void => {
      settling ??= this.#clock.setTimer(() => {
        settling = undefined;
        onWake();
      }, settleMs);
    };
    const open = (): void => {
      if (folder) return;
      try {
        folder = watchFolder(dirname(this.path), heard);
        folder.unref();
        folder.on('error', () => {
          folder?.close();
          folder = undefined;
        });
      } catch {
        // The folder may come later; until then the file is looked at from time to time.
        folder = undefined;
      }
    };
    const look = async (): Promise<void> => {
      open();
      const text = await this.#text().catch((error: Error) => error.message);
      if (isClosed) return;
      if (text !== seen) {
        seen = text;
        heard();
      }
      timer = this.#clock.setTimer(() => void look(), this.#everyMs);
    };
    onWake();
    void look();
    return {
      close: () => {
        isClosed = true;
        settling?.cancel();
        timer?.cancel();
        folder?.close();
      },
    };
  }
}
