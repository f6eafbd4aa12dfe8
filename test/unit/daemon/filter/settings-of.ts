/** Settings for the packet filter's tests: network 10.5.0.0/16, of which this node has 10.5.1.0/24. */

import { parseAddress } from '../../../../net/address.ts';
import { type Prefix, parsePrefix } from '../../../../net/prefix.ts';
import { desiredTable, type RuleSettings } from '../../../lab/filter-rules.ts';

export const prefix = (text: string): Prefix => parsePrefix(text)!;

export const settings: RuleSettings = {
  networks: { 4: prefix('10.5.0.0/16') },
  subnets: [{ 4: prefix('10.5.1.0/24') }],
  ipMasq: true,
  randomPorts: true,
  forward: true,
  lock: {
    outer: { 4: { ipProtocol: 17, udpPort: 8472, vni: 0x012345 } },
    lifeMs: 30_000,
    peers: ['192.0.2.2', '192.0.2.3', '0.0.0.0', '2001:db8::1', '192.0.2.2'].map((text) => parseAddress(text)!),
    containers: [prefix('10.5.0.0/16')],
  },
};

export const chain = (name: string, from = settings) => desiredTable(from).chains.find((each) => each.name === name)!;
