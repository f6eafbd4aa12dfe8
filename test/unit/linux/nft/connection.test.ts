/** A table that is compared, replaced and read. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { errno } from '../../../../linux/errors.ts';
import type { NetlinkQuery } from '../../../../linux/netlink/connection.ts';
import {
  NftConnection,
  type NftLink,
  replaceTableRequests,
  tableDifference,
} from '../../../../linux/nft/connection.ts';
import { type NftTable, nftMessage } from '../../../../linux/nft/table.ts';
import { table } from './ruleset.ts';

test('two tables differ only in what matters', () => {
  assert.is(tableDifference(table, table), undefined);
  const [postrouting, sub] = table.chains;
  const [peers, networks] = table.sets;
  const counted = { ...postrouting!.rules[0]!, handle: 7 };
  counted.expressions = counted.expressions.map((e) => (e.type === 'counter' ? { ...e, packets: 5, bytes: 9 } : e));
  const same: NftTable = {
    ...table,
    sets: [networks!, { ...peers!, elements: [...peers!.elements].reverse() }],
    chains: [sub!, { ...postrouting!, rules: [counted, ...postrouting!.rules.slice(1)] }],
  };
  assert.is(tableDifference(table, same), undefined);
  const differ = (change: Partial<NftTable>): string | undefined => tableDifference(table, { ...table, ...change });
  assert.is(differ({ chains: [postrouting!] }), 'chain "sub" is missing');
  assert.is(differ({ chains: [...table.chains, { name: 'x', rules: [] }] }), 'chain "x" is not Weft\'s');
  assert.is(differ({ sets: [peers!] }), 'set "networks" is missing');
  assert.is(differ({ sets: [...table.sets, { ...peers!, name: 'x' }] }), 'set "x" is not Weft\'s');
  assert.is(differ({ sets: [{ ...peers!, elements: [] }, networks!] }), 'set "peers" has other elements');
  assert.is(differ({ sets: [{ ...peers!, interval: true }, networks!] }), 'set "peers" is of another type');
  assert.match(
    differ({ chains: [{ ...postrouting!, base: { ...postrouting!.base!, policy: 'drop' } }, sub!] })!,
    /chain "postrouting" is of another type, hook, priority or policy/,
  );
  const swapped = [...postrouting!.rules].reverse();
  assert.is(
    differ({ chains: [{ ...postrouting!, rules: swapped }, sub!] }),
    'rule 1 of chain "postrouting" is another one',
  );
  assert.is(differ({ chains: [{ ...postrouting!, rules: [] }, sub!] }), 'chain "postrouting" has 0 rules, not 3');
});

test('a table is replaced in one batch: deleted, created, filled', () => {
  const names = Object.entries(nftMessage);
  const order = replaceTableRequests(table).map(({ type }) => names.find(([, number]) => number === type)![0]);
  assert.equal(order, [
    'NFT_MSG_NEWTABLE',
    'NFT_MSG_DELTABLE',
    'NFT_MSG_NEWTABLE',
    'NFT_MSG_NEWSET',
    'NFT_MSG_NEWSETELEM',
    'NFT_MSG_NEWSET',
    'NFT_MSG_NEWSETELEM',
    'NFT_MSG_NEWCHAIN',
    'NFT_MSG_NEWCHAIN',
    ...new Array<string>(4).fill('NFT_MSG_NEWRULE'),
  ]);
});

test('a table that keeps changing while it is read gives an error', () => {
  let generation = 0;
  const netlink: NftLink = {
    port: 0,
    close: () => undefined,
    dump: () => [],
    get: <T>({ type }: NetlinkQuery<T>) => (type === nftMessage.NFT_MSG_GETGEN ? ++generation : undefined) as T,
    transact: () => undefined,
  };
  const nft = new NftConnection(netlink);
  try {
    nft.readTable(table);
    assert.unreachable();
  } catch (error) {
    assert.is((error as { errno?: number }).errno, errno.EAGAIN);
  }
});

test.run();
