/** Variations of what ADD answered with, for the calls after it. */

import type { CniDocument } from '../../lab/plugin.ts';

type Document = CniDocument & Record<string, unknown>;
export const previousResults: [string, (added: CniDocument) => unknown][] = [
  ['prevResult null', () => null],
  ['prevResult {}', () => ({})],
  ['prevResult a text', () => 'x'],
  ['prevResult a list', () => []],
  ['prevResult without version', ({ cniVersion: _, ...rest }) => rest],
  ['prevResult of 0.2.0', () => ({ cniVersion: '0.2.0', ip4: { ip: '10.1.2.2/24' } })],
  ['prevResult of 0.4.0', (added) => ({ ...added, cniVersion: '0.4.0' })],
  ['prevResult of 9.9.9', (added) => ({ ...added, cniVersion: '9.9.9' })],
  ['prevResult with a bad address', (added) => ({ ...added, ips: [{ address: 'x' }] })],
  ['prevResult with unknown keys', (added) => ({ ...added, colour: 'blue' })],
  [
    'prevResult with keys in capitals',
    (added) => Object.fromEntries(Object.entries(added as Document).map(([key, value]) => [key.toUpperCase(), value])),
  ],
];

export const mac = 'c2:b0:57:49:47:f1';

function change(result: CniDocument, edit: (result: CniDocument) => void): CniDocument {
  // If there is nothing to change, both sides' answers show it.
  if (result.interfaces) edit(result);
  return result;
}

/** Results that are no longer true. */
export const otherResults: typeof previousResults = [
  [
    'another MAC',
    (result) =>
      change(result, (r) => {
        r.interfaces![2]!.mac = mac;
      }),
  ],
  [
    'another MAC of the host end',
    (result) =>
      change(result, (r) => {
        r.interfaces![1]!.mac = mac;
      }),
  ],
  [
    'another MAC of the bridge',
    (result) =>
      change(result, (r) => {
        r.interfaces![0]!.mac = mac;
      }),
  ],
  [
    'another sandbox',
    (result) =>
      change(result, (r) => {
        r.interfaces![2]!.sandbox = '/run/netns/other';
      }),
  ],
  ['no interfaces', ({ interfaces: _, ...rest }) => rest],
  ['no ips', ({ ips: _, ...rest }) => rest],
  [
    'another address',
    (result) =>
      change(result, (r) => {
        r.ips![0]!.address = '10.1.2.99/24';
      }),
  ],
  [
    'another length',
    (result) =>
      change(result, (r) => {
        r.ips![0]!.address = r.ips![0]!.address.replace('/24', '/25');
      }),
  ],
  [
    'another gateway',
    (result) =>
      change(result, (r) => {
        r.ips![0]!.gateway = '10.1.2.9';
      }),
  ],
  [
    'a route that is not there',
    (result) =>
      change(result, (r) => {
        r.routes = [...(r.routes ?? []), { dst: '192.168.0.0/16', gw: '10.1.2.1' }];
      }),
  ],
  [
    'a route by another gateway',
    (result) =>
      change(result, (r) => {
        r.routes = [{ dst: '0.0.0.0/0', gw: '10.1.2.77' }];
      }),
  ],
  [
    'no routes',
    (result) =>
      change(result, (r) => {
        delete r.routes;
      }),
  ],
  [
    'routes null',
    (result) =>
      change(result, (r) => {
        (r as Record<string, unknown>)['routes'] = null;
      }),
  ],
  [
    'another interface besides',
    (result) =>
      change(result, (r) => {
        r.interfaces!.push({ name: 'tun0', mac, sandbox: '' });
      }),
  ],
  [
    'interfaces in another order',
    (result) =>
      change(result, (r) => {
        r.interfaces!.reverse();
        r.ips![0]!.interface = 0;
      }),
  ],
  [
    'ips of another interface',
    (result) =>
      change(result, (r) => {
        r.ips![0]!.interface = 1;
      }),
  ],
  [
    'ips of no interface',
    (result) =>
      change(result, (r) => {
        delete r.ips![0]!.interface;
      }),
  ],
  [
    'an address without host end',
    (result) =>
      change(result, (r) => {
        r.interfaces!.splice(1, 1);
        r.ips![0]!.interface = 1;
      }),
  ],
];
