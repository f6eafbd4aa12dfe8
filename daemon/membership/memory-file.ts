/**
 * The file of the peers that this node knows. It is of use only where the store is found empty, so its errors are
 * reported and hold up nothing.
 */

import type { LeaseMemoryFormat } from '../../cluster/store.ts';
import type { NodeFiles } from '../host/files.ts';
import type { Problems } from '../report/problems.ts';
import type { MembershipMemory } from './memory.ts';

/** @param kind the name that people know the store by */
export function openMemory(
  files: Pick<NodeFiles, 'readMemory' | 'writeMemory'>,
  format: LeaseMemoryFormat,
  problems: Pick<Problems, 'report'>,
  kind: string,
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
        return text === undefined ? undefined : format.parse(text);
      }),
    write: (memory) => {
      const { text, leftOut } = format.format(memory);
      reported(() => {
        files.writeMemory(text);
        if (leftOut === 0) return;
        throw new Error(
          `The file of known peers has no room for ${leftOut} of ${memory.peers.length}; if ${kind} loses its data, the way to these is lost after a restart of weftd; look for leases that no node needs`,
        );
      });
    },
  };
}
