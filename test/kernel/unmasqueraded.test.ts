/** Connections that began while somebody had taken the masquerading rules away. As root. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { forgetUnmasqueraded, isUnmasqueraded } from '../../daemon/filter/unmasqueraded.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parseAddress } from '../../net/address.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { FilterHost, filterSettings as settings } from '../lab/filter-host.ts';
import { openRules, type Rules } from '../lab/filter-rules.ts';
import { insideNamespace } from '../lab/namespaces.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('unmasqueraded');

/** Writes the source address of each datagram that comes. */
const listener = `
  for (const type of ['udp4', 'udp6']) {
    const socket = require('node:dgram').createSocket({ type, ipv6Only: type === 'udp6' });
    socket.on('message', (_, { address }) => console.log(address));
    socket.bind(6666, () => console.log('ready'));
  }
`;
/** A datagram every 20 ms, all from one port: one connection for as long as it goes on. */
const speaker = `
  for (const [type, to] of [['udp4', '192.0.2.2'], ['udp6', '2001:db8::2']]) {
    const socket = require('node:dgram').createSocket({ type, ipv6Only: type === 'udp6' });
    socket.bind(5555, () => setInterval(() => socket.send('x', 6666, to), 20));
  }
`;

class Bench {
  readonly scratch = new Scratch('unmasq');
  readonly host = new FilterHost(this.scratch);
  readonly told: string[] = [];
  readonly logFile = join(this.scratch.folder, 'heard');
  readonly rules: Rules;
  nowMs = 0;

  constructor() {
    const { namespace: name, there } = this.host;
    for (const [namespace, device, last] of [
      [name, 'flannel.1', 1],
      [there, 'eth0', 2],
    ] as const) {
      run(['ip', '-n', namespace, 'addr', 'add', `192.0.2.${last}/24`, 'dev', device]);
      run(['ip', '-n', namespace, 'addr', 'add', `2001:db8::${last}/64`, 'dev', device, 'nodad']);
    }
    const logger = { debug() {}, info: (line: string) => void this.told.push(line), warn: console.error, error() {} };
    this.rules = openRules(sys, logger, {
      name: 'weft',
      now: () => this.nowMs,
      roads: () => ({ peers: [], external: 'flannel.1', containers: ['cni0'] }),
      addresses: () => [parseAddress('192.0.2.1')!],
    });
  }

  ensure(): void {
    insideNamespace(this.host.namespace, () => this.rules.ensure(settings));
  }

  heard(): string[] {
    return readFileSync(this.logFile, 'utf8').split('\n').slice(0, -1);
  }
}

const bench = fixture(
  test,
  async () => {
    const made = new Bench();
    await made.host.whenForwarding();
    return made;
  },
  (made) => {
    made.rules.close();
    made.scratch.remove();
  },
);

test('a connection made without masquerading is masqueraded once the rules are back, and others are left alone', async () => {
  const { host, scratch } = bench();
  bench().ensure();
  // Somebody else's rule that needs connections keeps the kernel following them.
  host.run('nft', 'add', 'table', 'inet', 'others');
  host.run('nft', 'add', 'chain', 'inet', 'others', 'seen', '{ type filter hook forward priority 0; }');
  host.run('nft', 'add', 'rule', 'inet', 'others', 'seen', 'ct', 'state', 'established', 'counter');
  host.run('nft', 'flush', 'chain', 'inet', 'weft', 'postrouting');
  scratch.start([process.execPath, '-e', listener], { namespace: host.there, logFile: bench().logFile });
  await waitFor('the listener', () => bench().heard().length === 2);
  scratch.start([process.execPath, '-e', speaker], { namespace: host.here, logFile: join(scratch.folder, 'speaker') });
  const last = (): string[] => bench().heard().slice(-6);
  await waitFor('datagrams with the container’s address', () =>
    ['10.5.1.2', 'fd00:5:0:1::2'].every((address) => last().includes(address)),
  );
  bench().ensure();
  assert.ok(bench().told.some((line) => line.includes('without masquerading')));
  await waitFor('datagrams with the host’s address alone', () =>
    last().every((address) => address === '192.0.2.1' || address === '2001:db8::1'),
  );
  // It is one connection again, which another such gap does not touch.
  const told = bench().told.length;
  bench().nowMs += 60_000;
  host.run('nft', 'delete', 'table', 'inet', 'weft');
  bench().ensure();
  assert.not(
    bench()
      .told.slice(told)
      .some((line) => line.includes('without masquerading')),
  );
});

/** One datagram from each of three ports. */
const speakers = `
  for (const port of [7001, 7002, 7003]) {
    const socket = require('node:dgram').createSocket('udp4');
    socket.bind(port, () => socket.send('x', 6666, '192.0.2.2', () => socket.close()));
  }
`;

test('each run looks at and forgets only as many connections as time allows', () => {
  const { host } = bench();
  host.run('nft', 'flush', 'chain', 'inet', 'weft', 'postrouting');
  run([process.execPath, '-e', speakers], { namespace: host.here });
  const forget = (limits: { lookMs: number; connections: number }) =>
    insideNamespace(host.namespace, () => {
      const containers = [parsePrefix('10.5.0.0/16')!];
      return forgetUnmasqueraded(sys, containers, [parseAddress('192.0.2.1')!], () => performance.now(), limits);
    });
  assert.equal(forget({ lookMs: -1, connections: 100 }), { forgotten: 0, isWhole: false });
  assert.equal(forget({ lookMs: 60_000, connections: 2 }), { forgotten: 2, isWhole: false });
  assert.is(forget({ lookMs: 60_000, connections: 100 }).isWhole, true);
  assert.equal(forget({ lookMs: 60_000, connections: 100 }), { forgotten: 0, isWhole: true });
});

test('connections that should have been masqueraded are recognised', () => {
  const containers = [parsePrefix('10.5.0.0/16')!];
  const own = [parseAddress('192.0.2.1')!];
  const is = (source: string, destination: string, from = destination, to = source): boolean => {
    const direction = (a: string, b: string) => ({ source: parseAddress(a)!, destination: parseAddress(b)! });
    const original = direction(source, destination);
    const reply = direction(from, to);
    return isUnmasqueraded({ original, reply, isSourceTranslated: to !== source }, containers, own);
  };
  assert.ok(is('10.5.1.2', '198.51.100.1'));
  assert.ok(is('10.5.1.2', '10.96.0.1', '198.51.100.1'));
  // Masqueraded; to another container; to a service with containers behind it; to the host; to many; from outside.
  assert.not(is('10.5.1.2', '198.51.100.1', '198.51.100.1', '192.0.2.1'));
  assert.not(is('10.5.1.2', '10.5.2.2'));
  assert.not(is('10.5.1.2', '10.96.0.1', '10.5.2.2'));
  assert.not(is('10.5.1.2', '192.0.2.1'));
  assert.not(is('10.5.1.2', '224.0.0.1'));
  assert.not(is('198.51.100.1', '10.5.1.2'));
});

test.run();
