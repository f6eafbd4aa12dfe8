/** The interface of weftctl's verbs. */

import type { OptionSpec, ParsedOptions } from '../command/options.ts';
import type { CliHost } from './host.ts';
import type { Source } from './source.ts';
import type { Style } from './text.ts';

export interface VerbContext {
  readonly host: CliHost;
  readonly options: ParsedOptions;
  /** The words after the verb. */
  readonly words: readonly string[];
  readonly style: Style;
  /** weftd's socket, or etcd if the command line or the environment says so. The caller closes it. */
  readonly source: Source;
}

/** The exports of a verb's own file. */
export interface VerbModule {
  /** @returns the exit status */
  run(context: VerbContext): Promise<number>;
}

/** The description of a verb, without its code. */
export interface Verb {
  /** Its words on the command line, such as `config get`. */
  readonly name: string;
  /** The arguments, for the help. */
  readonly usage: string;
  readonly summary: string;
  /** The help's second paragraph. */
  readonly description: string;
  readonly options: readonly OptionSpec[];
  readonly most: number;
  /** It reads its command line by itself, as another program that it replaces does. Then it has no other options. */
  readonly readsArguments?: (host: CliHost, args: readonly string[]) => Promise<number>;
  readonly load: () => Promise<VerbModule>;
}
