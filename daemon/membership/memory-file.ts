/**
 * The file of the peers that this node knows. It is of use only where etcd is found empty, so its errors are reported and
 * hold up nothing.
 */

import { keysBelow } from '../../cluster/etcd/keys.ts';
import { formatLeaseMemory, parseLeaseMemory } from '../../cluster/lease-memory.ts';
import type { NodeFiles } from '../host/files.ts';
import type { Problems } from '../report/problems.ts';
import type { MembershipMemory } from './membership.ts';

export function openMemory(
  files: Pick<NodeFiles, 'readMemory' | 'writeMemory'>,
  prefix: string,
  problems: Pick<Problems, 'report'>,
): MembershipMemory {
  const reported = <T>(work: () => T): T | undefined => {
    try {
      const result = work();
      problems.report('memory', undefined);
      return result;
    } catch (error) {
      problems.report('memory', (error as Error).message);
      return undefined;
    }
  };
  return {
    read: () =>
      reported(() => {
        const text = files.readMemory();
        return text === undefined ? undefined : parseLeaseMemory(text, keysBelow(prefix));
      }),
    write: (memory) => reported(() => files.writeMemory(formatLeaseMemory(memory, prefix))),
  };
}
