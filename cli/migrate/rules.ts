/** Removes flanneld's packet filter rules, in the tables of both kinds of iptables and in nf_tables. */

import { spawnSync } from 'node:child_process';
import { hasCode } from '../../linux/errors.ts';
import { isNftMissing, withNft } from '../../linux/nft/connection.ts';
import { deleteTable } from '../../linux/nft/table.ts';
import type { Sys } from '../../linux/sys.ts';
import { CliError } from '../host.ts';
import { hasLegacyTables } from '../install/host-facts.ts';
import { flannelTables, planRemoval } from './flannel-rules.ts';

const timeoutMs = 30_000;
const limitBytes = 64 * 1024 * 1024;

/** Undefined if the program is not there. @throws CliError */
function execute(program: string, args: readonly string[], input = ''): string | undefined {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    input,
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: limitBytes,
  });
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return undefined;
  if (error || status !== 0) {
    const said = error?.message ?? (stderr.trim().split('\n').at(-1) || `status ${status}`);
    throw new CliError(`"${[program, ...args].join(' ')}" failed: ${said}`);
  }
  return stdout;
}

/** The programs for one kind of iptables: `iptables-nft-save`, or `iptables-save` where there is only one kind. */
const kinds = (): readonly (readonly string[])[] => [
  ['iptables-nft', 'iptables'],
  ['ip6tables-nft', 'ip6tables'],
  // Asked only where it has rules: the question would load its kernel modules.
  ...(hasLegacyTables() ? [['iptables-legacy'], ['ip6tables-legacy']] : []),
];

/** @returns whether something was removed */
function removeWith(program: string): boolean | undefined {
  const saved = execute(`${program}-save`, []);
  if (saved === undefined) return undefined;
  const script = planRemoval(saved);
  if (script === undefined) return false;
  if (execute(`${program}-restore`, ['-w', '30', '--noflush'], script) === undefined) {
    throw new CliError(`Cannot remove flanneld's rules: "${program}-restore" is not there`);
  }
  return true;
}

function removeTables(sys: Sys): string[] {
  try {
    return withNft(sys, (nft) =>
      flannelTables.flatMap(([family, name]) => {
        try {
          nft.transact([deleteTable({ family, name })]);
          return [`the table ${family} ${name}`];
        } catch (error) {
          if (hasCode(error, 'ENOENT')) return [];
          throw error;
        }
      }),
    );
  } catch (error) {
    if (isNftMissing(error)) return [];
    throw error;
  }
}

/** @returns what is gone @throws CliError */
export function removeFlannelRules(sys: Sys): string[] {
  const gone = kinds().flatMap((programs) => {
    for (const program of programs) {
      const removed = removeWith(program);
      if (removed !== undefined) return removed ? [`flanneld's chains of ${program}`] : [];
    }
    return [];
  });
  return [...gone, ...removeTables(sys)];
}
