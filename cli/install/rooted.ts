/**
 * Paths below another root, such as an image's (`--root`). A link with an absolute target stays below that root, as it
 * would after a chroot. Otherwise a link in an image would lead to the host's own files.
 */

import { lstatSync, readlinkSync } from 'node:fs';
import { withoutTrailingSlashes } from '../../net/text.ts';
import { CliError } from '../host.ts';

const mostLinks = 40;

/** The target of a link; undefined for anything else, and for what is missing. */
function targetOf(path: string): string | undefined {
  const status = lstatSync(path, { throwIfNoEntry: false });
  return status?.isSymbolicLink() ? readlinkSync(path) : undefined;
}

export class Root {
  /** Without a trailing slash: empty for the host itself. */
  readonly path: string;

  constructor(path: string | undefined) {
    this.path = withoutTrailingSlashes(path ?? '');
    if (this.path === '/') this.path = '';
  }

  /**
   * The path of `path` on this host, with every link of its folders followed below the root. Missing parts stay.
   * @param followsLast false: the last part is taken as it is, also if it is a link
   * @throws CliError for links that lead in a circle
   */
  at(path: string, followsLast = false): string {
    const left = path.split('/').filter((part) => part !== '' && part !== '.');
    let done: string[] = [];
    let links = 0;
    while (left.length > 0) {
      const part = left.shift()!;
      if (part === '..') {
        done.pop();
        continue;
      }
      const here = `${this.path}/${[...done, part].join('/')}`;
      const target = left.length > 0 || followsLast ? targetOf(here) : undefined;
      if (target === undefined) {
        done.push(part);
        continue;
      }
      links++;
      if (links > mostLinks) throw new CliError(`Cannot follow "${path}": its links lead in a circle`);
      if (target.startsWith('/')) done = [];
      left.unshift(...target.split('/').filter((each) => each !== '' && each !== '.'));
    }
    return `${this.path}/${done.join('/')}`;
  }

  /** A folder: its own last part is followed, too. */
  folder(path: string): string {
    return this.at(path, true);
  }

  /** How the path reads below the root, for messages. */
  told(path: string): string {
    return path.startsWith(`${this.path}/`) ? path.slice(this.path.length) : path;
  }
}
