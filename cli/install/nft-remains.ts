/** Rules in nf_tables: those that plugins leave behind when the last container is gone, and those of others. */

import { SyscallError } from '../../linux/errors.ts';
import { isNftMissing, type NftConnection, withNft } from '../../linux/nft/connection.ts';
import { deleteTable, type NftChain, type NftFamily, type TableName } from '../../linux/nft/table.ts';
import type { Sys } from '../../linux/sys.ts';

const families = ['ip', 'ip6', 'inet'] as const satisfies readonly NftFamily[];

interface PluginTable {
  readonly table: TableName;
  /** Chains with a rule for each container. */
  readonly perContainer: readonly string[];
  /** Chains with rules that are always the same. */
  readonly fixed: readonly string[];
}

/**
 * Tables that the CNI plugins of Weft's network make, Weft's own and the reference's alike. A table with any other chain
 * is somebody's.
 */
const pluginTables: readonly PluginTable[] = [
  {
    table: { family: 'inet', name: 'cni_plugins_masquerade' },
    perContainer: ['masq_checks'],
    fixed: ['postrouting'],
  },
  { table: { family: 'bridge', name: 'nat' }, perContainer: ['PREROUTING'], fixed: [] },
  {
    table: { family: 'inet', name: 'cni_hostport' },
    perContainer: ['hostports', 'hostip_hostports'],
    fixed: ['prerouting', 'output', 'masquerading'],
  },
];

const nameOf = ({ family, name }: TableName): string => `${family} ${name}`;

const ownTable = 'weft';

const without = <T>(work: () => T, otherwise: T): T => {
  try {
    return work();
  } catch (error) {
    if (isNftMissing(error) || error instanceof SyscallError) return otherwise;
    throw error;
  }
};

function isEmptied(nft: NftConnection, { table, perContainer, fixed }: PluginTable): boolean {
  const chains = nft.listChains(table.family).filter((each) => each.table.name === table.name);
  return (
    chains.length > 0 &&
    chains.every(
      ({ chain: { name } }) =>
        fixed.includes(name) || (perContainer.includes(name) && nft.listRules(table, name).length === 0),
    )
  );
}

/** The plugins' tables that are there. */
export const listPluginTables = (sys: Sys): string[] =>
  without(
    () =>
      withNft(sys, (nft) =>
        pluginTables
          .filter(({ table }) => nft.listChains(table.family).some((each) => each.table.name === table.name))
          .map(({ table }) => nameOf(table)),
      ),
    [],
  );

/**
 * Removes the plugins' tables that have no container's rules.
 * @param before those that were there before Weft
 * @returns the names of those that are gone
 */
export function removeEmptyTables(sys: Sys, before: readonly string[]): string[] {
  return without(
    () =>
      withNft(sys, (nft) =>
        pluginTables
          .filter(({ table }) => !before.includes(nameOf(table)))
          .filter((each) => isEmptied(nft, each))
          .map(({ table }) => {
            nft.transact([deleteTable(table)]);
            return nameOf(table);
          }),
      ),
    [],
  );
}

/** Chains of others that forward or translate packets: `ip nat DOCKER`. Such a program needs the host to forward. */
export function foreignForwarding(sys: Sys): string[] {
  return without(
    () =>
      withNft(sys, (nft) =>
        families.flatMap((family) =>
          nft
            .listChains(family)
            .filter(({ table }) => table.name !== ownTable)
            .filter(({ table, chain }) => isAboutForwarding(table, chain.name, chain.base))
            .filter(({ table, chain }) => nft.listRules(table, chain.name).length > 0)
            .map(({ table, chain }) => `${table.family} ${table.name} ${chain.name}`),
        ),
      ),
    [],
  );
}

const isAboutForwarding = ({ name }: TableName, chain: string, base: NftChain['base']): boolean =>
  base?.type === 'nat' || base?.hook === 'forward' || name === 'nat' || chain === 'FORWARD';
