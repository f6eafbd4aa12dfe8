/** Whole tables of nf_tables, replaced and removed. */

import { type NftConnection, replaceTableRequests } from '../../linux/nft/connection.ts';
import { deleteTable, type NftTable, newTable, type TableName } from '../../linux/nft/table.ts';

/** Replaces the table of that name atomically. Counters restart at 0. */
export const replaceTable = (nft: NftConnection, table: NftTable): void => nft.transact(replaceTableRequests(table));

/** Deletes the table with its content. It is no error if there is none. */
export const removeTable = (nft: NftConnection, table: TableName): void =>
  nft.transact([newTable(table), deleteTable(table)]);
