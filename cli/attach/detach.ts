/** `weftctl detach`: removes an interface that `weftctl attach` made. The container may be gone. */

import { UsageError } from '../../command/options.ts';
import { withLock } from '../../linux/lock.ts';
import { CliError } from '../host.ts';
import type { VerbContext } from '../verb.ts';
import { toCliError } from './attach.ts';
import { networkPlace } from './options.ts';
import { type AttachmentRecord, lockPath, readRecords, removeRecord } from './records.ts';

/** The beginning of an id has at least so many characters. */
const leastIdLength = 6;

/** Whether the record is the container's that a person means, by the words that `attach` takes. */
export function isMeant({ containerId, attachedBy }: AttachmentRecord, word: string): boolean {
  const [, kind, rest] = /^(pid|docker|podman|cri):(.*)$/.exec(word) ?? [];
  if (kind !== undefined && kind !== attachedBy.runtime) return false;
  const name = rest ?? word;
  if (containerId === name || (attachedBy.name !== '' && attachedBy.name === name)) return true;
  if (attachedBy.runtime === 'pid') return String(attachedBy.pid) === name;
  return name.length >= leastIdLength && containerId.startsWith(name);
}

const describe = ({ ifname, containerId }: AttachmentRecord): string => `"${ifname}" of ${containerId}`;

export async function run({ host, words, options }: VerbContext): Promise<number> {
  const [word, network] = words;
  if (word === undefined || network === undefined) {
    throw new UsageError('"detach" needs a container, or the number of a process, and a network');
  }
  const name = options.text('name');
  const place = await networkPlace(host, options);
  try {
    const mine = readRecords(place).filter((record) => record.network === network && isMeant(record, word));
    const found = mine.filter(({ ifname }) => name === undefined || ifname === name);
    const [record, ...others] = found;
    if (!record) {
      throw new CliError(
        `Nothing of "${word}" is attached to "${network}"${name === undefined ? '' : ` as "${name}"`}; see "weftctl attachments"`,
      );
    }
    if (others.length > 0) {
      throw new CliError(`"${word}" has several interfaces in "${network}": say which by --name`, found.map(describe));
    }
    withLock(place.sys, lockPath(place.cacheDir), () => removeRecord(place, record));
    host.stdout(`${record.ifname} of ${word} is removed from the network "${network}".\n`);
    return 0;
  } catch (error) {
    throw toCliError(error);
  }
}
