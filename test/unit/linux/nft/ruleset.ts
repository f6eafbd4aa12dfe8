/** The fixtures' ruleset by our builder, and a table with it. */

import {
  accept,
  counter,
  destinationIn,
  destinationIsLocal,
  drop,
  inputInterface,
  jump,
  markIs,
  masquerade,
  not,
  returnVerdict,
  rule,
  sourceIn,
  sourceInSet,
} from '../../../../linux/nft/match.ts';
import { type NftRule, type NftTable, nftPriority } from '../../../../linux/nft/table.ts';
import { parseAddress } from '../../../../net/address.ts';
import { type Prefix, parsePrefix } from '../../../../net/prefix.ts';
import { connectionStateIn, saveMark, setMark } from '../../../support/nft-match.ts';

export const prefix = (text: string): Prefix => parsePrefix(text)!;
export const key = (text: string): Uint8Array => parseAddress(text)!.bytes;

/** Chain by chain. */
export const expected: Record<string, NftRule[]> = {
  postrouting: [
    rule([sourceIn(prefix('10.5.16.0/20')), destinationIn(prefix('10.5.0.0/16')), counter(), returnVerdict()], {
      comment: 'within',
    }),
    rule([
      sourceIn(prefix('10.5.0.0/16')),
      not(destinationIn(prefix('224.0.0.0/4'))),
      masquerade({ fullyRandom: true }),
    ]),
    rule([sourceInSet('networks', 6), masquerade()]),
  ],
  input: [rule([inputInterface('lo'), accept()]), rule([markIs(0x4000, 0x4000), jump('marked')])],
  marked: [
    rule([connectionStateIn(['established', 'related']), accept()]),
    rule([destinationIsLocal(), setMark(5)]),
    rule([saveMark()]),
  ],
};

export const table: NftTable = {
  family: 'inet',
  name: 'weft',
  sets: [
    { name: 'peers', keyType: 'ipv4_addr', interval: false, elements: [key('192.0.2.1'), key('192.0.2.2')] },
    { name: 'networks', keyType: 'ipv6_addr', interval: true, elements: [prefix('fd00::/64')] },
  ],
  chains: [
    {
      name: 'postrouting',
      base: { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' },
      rules: expected['postrouting']!,
    },
    { name: 'sub', rules: [rule([drop()])] },
  ],
};
