import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FilterEvents } from '../../../../daemon/filter/filter-events.ts';
import type { NetlinkRequest } from '../../../../linux/netlink/connection.ts';
import { type NetlinkMessage, NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { accept, rule } from '../../../../linux/nft/match.ts';
import { encodeNfgenmsg, type NftChain, newChain, newRule, newTable, nftMessage } from '../../../../linux/nft/table.ts';
import { decodeMessages } from '../../../support/netlink-messages.ts';

const test = suite('daemon/filter/filter-events');

/** As the kernel tells of it: with the same type and attributes as it was asked. */
function messageOf({ type, encodeBody }: Pick<NetlinkRequest, 'type' | 'encodeBody'>): NetlinkMessage {
  const writer = new NetlinkWriter();
  const start = writer.beginMessage(type, 0, 1);
  encodeBody(writer);
  writer.endMessage(start);
  return decodeMessages(new Uint8Array(writer.buffer, 0, writer.length))[0]!;
}

const generation = (program: string): NetlinkMessage =>
  messageOf({
    type: nftMessage.NFT_MSG_NEWGEN,
    encodeBody(writer) {
      encodeNfgenmsg(writer, 0);
      writer.attributeU32be(1, 7);
      writer.attributeU32be(2, 4711);
      writer.attributeText(3, program);
    },
  });

const own = { family: 'inet', name: 'weft' } as const;
const other = { family: 'ip', name: 'nat' } as const;
const base = (hook: 'forward' | 'input' | 'prerouting'): NftChain => ({
  name: 'chain',
  base: { type: 'filter', hook, priority: 0, policy: 'accept' },
  rules: [],
});
const concerns = (family: string, table: string): boolean => family === 'inet' && table === 'weft';

test('changes of the tables in question matter, and chains that see the cluster’s packets', () => {
  const events = new FilterEvents(() => {});
  const matters = (request: NetlinkRequest): boolean => events.isRelevant(messageOf(request), concerns);
  assert.ok(matters(newRule(own, 'chain', rule([accept()]))));
  assert.not(matters(newRule(other, 'chain', rule([accept()]))));
  assert.not(matters(newTable(other)));
  assert.not(matters(newChain(other, { name: 'chain', rules: [] })));
  const translating = base('prerouting');
  assert.not(matters(newChain(other, { ...translating, base: { ...translating.base!, type: 'nat' } })));
  assert.ok(matters(newChain(other, base('input'))));
  assert.ok(matters(newChain(other, base('forward'))));
});

test('the program is that of the last change that matters, and told once', () => {
  const events = new FilterEvents(() => {});
  events.isRelevant(messageOf(newRule(own, 'chain', rule([accept()]))), concerns);
  assert.not(events.isRelevant(generation('nft'), concerns));
  events.isRelevant(messageOf(newRule(other, 'chain', rule([accept()]))), concerns);
  events.isRelevant(generation('kube-proxy'), concerns);
  assert.is(events.takeChanger(), 'nft');
  assert.is(events.takeChanger(), undefined);
});

test.run();
