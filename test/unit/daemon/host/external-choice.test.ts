import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type NetworkConfig, parseNetworkConfig } from '../../../../cluster/network-config.ts';
import type { NodeAddresses } from '../../../../cluster/store.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { ExternalChoice } from '../../../../daemon/host/external-choice.ts';
import type {
  ExternalInterface,
  HostInterface,
  HostView,
  InterfaceChoice,
} from '../../../../daemon/host/external-interface.ts';
import { emptyState, type NodeState } from '../../../../daemon/host/files.ts';
import { RememberedState } from '../../../../daemon/host/remembered-state.ts';
import type { Address } from '../../../../net/address.ts';
import { address } from '../overlay/cluster-of.ts';

const test = suite('daemon/host/external-choice');

const config: NetworkConfig = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}', backends);

const device = (index: number, name: string, ...addresses: readonly string[]): HostInterface => ({
  index,
  name,
  up: true,
  loopback: name === 'lo',
  mtuBytes: 1500,
  addresses: addresses.map(address),
});

/** @param index of the interface that has the default route; 0: there is none */
const host = (index: number, ...interfaces: readonly HostInterface[]): HostView => ({
  interfaces,
  defaultRoutes: () => (index > 0 ? [{ index, source: undefined }] : []),
  lookupRoute: ({ bytes }) => (bytes[0] === 127 ? { index: 1, source: undefined } : { index: 3, source: undefined }),
});

const lo = device(1, 'lo', '127.0.0.1');
const eth0 = device(2, 'eth0', '192.0.2.1');
const vpn = device(3, 'wg0', '10.8.0.2');

class Daemon {
  #state: NodeState = emptyState;
  choice: Partial<InterfaceChoice> = {};
  storeAddresses: readonly Address[] = [];

  get state(): NodeState {
    return this.#state;
  }

  /** What a weftd that starts now uses, with what it would choose anew. */
  start(view: HostView): readonly [name: string, other?: string | undefined] {
    const remembered = new RememberedState(
      {
        readState: () => this.#state,
        writeState: (state) => {
          this.#state = state;
          return true;
        },
      },
      () => undefined,
    );
    const external = new ExternalChoice({
      choice: { names: [], patterns: [], canReach: undefined, publicAddresses: {}, ...this.choice },
      peerLock: true,
      remembered,
      storeAddresses: () => this.storeAddresses,
    });
    const found = external.find(config, view);
    external.use(found);
    assert.is(external.find(config, view).other, undefined, 'told once');
    return found.other === undefined ? [found.external.name] : [found.external.name, found.other];
  }
}

test('what was chosen stays across a restart, as long as it has its address', () => {
  const daemon = new Daemon();
  assert.equal(daemon.start(host(2, eth0, vpn)), ['eth0']);
  assert.equal(daemon.start(host(3, eth0, vpn)), ['eth0', 'wg0'], 'a VPN has the default route');
  const renamed = device(9, 'lan0', '192.0.2.1');
  assert.equal(daemon.start(host(3, renamed, vpn)), ['lan0', 'wg0'], 'after a boot it has other numbers, or a name');
  assert.equal(daemon.start(host(3, { ...renamed, up: false }, vpn)), ['wg0'], 'it is down');
  assert.equal(daemon.start(host(2, eth0, vpn)), ['wg0', 'eth0']);
  assert.equal(daemon.start(host(2, eth0)), ['eth0'], 'it is gone');
});

test('other options make a new choice', () => {
  const daemon = new Daemon();
  assert.equal(daemon.start(host(2, eth0, vpn)), ['eth0']);
  daemon.choice = { patterns: ['^wg'] };
  assert.equal(daemon.start(host(2, eth0, vpn)), ['wg0']);
  daemon.choice = { names: ['eth0'] };
  assert.equal(daemon.start(host(3, eth0, vpn)), ['eth0']);
  daemon.choice = {};
  assert.equal(daemon.start(host(3, eth0, vpn)), ['wg0']);
});

test('an interface that serves containers now is not taken again', () => {
  const daemon = new Daemon();
  daemon.start(host(2, eth0, vpn));
  assert.equal(daemon.start(host(3, { ...eth0, servesContainers: true }, vpn)), ['wg0']);
});

test("without a default route, the way to the cluster's store counts", () => {
  const daemon = new Daemon();
  const view = host(0, lo, eth0, vpn);
  assert.throws(() => daemon.start(view), /there is no default route; there are eth0/);
  daemon.storeAddresses = [address('127.0.0.1')];
  assert.throws(() => daemon.start(view), /there is no default route/, 'a store on this host shows no way');
  daemon.storeAddresses = [address('127.0.0.1'), address('10.8.0.1')];
  assert.equal(daemon.start(view), ['wg0']);
  assert.equal(new Daemon().start(host(2, lo, eth0, vpn)), ['eth0']);
});

const none: NodeAddresses = { overwrites: {}, interfaces: {}, problems: [] };

/** A weftd that goes on, with the addresses that people set in the store. */
class Told {
  told: NodeAddresses | undefined;
  readonly choice = new ExternalChoice({
    choice: { names: [], patterns: [], canReach: undefined, publicAddresses: {} },
    peerLock: false,
    remembered: new RememberedState({ readState: () => emptyState, writeState: () => true }, () => undefined),
    storeAddresses: () => [],
    told: () => this.told,
  });

  /** Chooses, and uses it. */
  get external(): ExternalInterface {
    const found = this.choice.find(config, host(2, device(2, 'eth0', '192.0.2.1', '192.0.2.9'), vpn));
    this.choice.use(found);
    return found.external;
  }
}

test('an address that people set to be published is published, and changes nothing else', () => {
  const weftd = new Told();
  const plain = weftd.external;
  weftd.told = { ...none, overwrites: { 4: address('203.0.113.7'), 6: address('2001:db8::7') } };
  assert.equal(weftd.external, { ...plain, publicAddresses: { 4: address('203.0.113.7') } });
  weftd.told = none;
  assert.equal(weftd.external, plain);
});

test('an address that people set chooses the interface, on the same one as well, until it is taken back', () => {
  const weftd = new Told();
  const plain = weftd.external;
  for (const [text, name] of [
    ['10.8.0.2', 'wg0'],
    ['192.0.2.9', 'eth0'],
  ] as const) {
    weftd.told = { ...none, interfaces: { 4: address(text) } };
    const { name: chosen, addresses, publicAddresses } = weftd.external;
    assert.equal([chosen, addresses, publicAddresses], [name, { 4: address(text) }, { 4: address(text) }]);
  }
  weftd.told = undefined;
  assert.equal(weftd.external, plain);
});

test('what people have set in vain is told, and differs from what was told before', () => {
  const weftd = new Told();
  const before = weftd.choice.told;
  weftd.told = { ...none, problems: ['"x" is no address'] };
  assert.is.not(weftd.choice.told, before);
  void weftd.external;
  assert.is(weftd.choice.problem, '"x" is no address');
});

test.run();
