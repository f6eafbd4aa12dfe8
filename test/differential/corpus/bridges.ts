/** The bridge plugin's own keys, layer 2, and bridges that are there before. */

import type { Step } from './case.ts';
import { dual, type Family, show, v4, v6 } from './family.ts';

export function bridges({ drawFor, main }: Family): void {
  for (const mtu of [
    0,
    68,
    576,
    1280,
    1400,
    1500,
    9000,
    65535,
    67,
    1,
    65536,
    70000,
    -1,
    '1500',
    1.5,
    null,
    true,
    1e10,
    [],
    {},
  ]) {
    main(`mtu ${show(mtu)}`, { mtu, ...(drawFor(`mtu ${show(mtu)}`).chance(0.5) && { isGateway: true }) });
  }
  main('mtu 1280 with v6', { mtu: 1280, isGateway: true }, v6);
  main('mtu 1000 with v6', { mtu: 1000, isGateway: true }, v6);
  for (const bridge of [
    'br0',
    'b',
    'x'.repeat(15),
    'x'.repeat(16),
    '',
    null,
    'a/b',
    'a b',
    '.',
    '..',
    'a:b',
    7,
    'br0.1',
    'lo',
    'all',
    'default',
    '-x',
    'a%d',
  ]) {
    main(`bridge ${show(bridge)}`, { bridge });
  }
  for (const key of [
    'isGateway',
    'isDefaultGateway',
    'forceAddress',
    'hairpinMode',
    'promiscMode',
    'enabledad',
  ] as const) {
    for (const value of [true, false, null, 'true', 1, {}]) main(`${key} ${show(value)}`, { [key]: value });
  }
  main('hairpinMode and promiscMode', { hairpinMode: true, promiscMode: true });
  main('IsGateway in another case', {
    ISGATEWAY: true,
    HairpinMode: true,
    BRIDGE: 'br7',
    bridge: undefined,
    MTU: 1400,
  });
  main('promiscMode with a gateway', { promiscMode: true, isGateway: true });
  main('hairpin with a gateway', { hairpinMode: true, isDefaultGateway: true });
  main('enabledad with v6', { enabledad: true, isGateway: true }, v6);
  // This reference does not know these yet.
  main('disableContainerInterface', { disableContainerInterface: true }, undefined);
  main('portIsolation', { portIsolation: true });
}

/** Masquerading, VLANs and the check of MACs. */
export function filters({ main }: Family): void {
  const steps: Step[] = [{ command: 'ADD' }, { command: 'CHECK', prevResult: 'added' }, { command: 'DEL' }];
  for (const ipMasqBackend of [undefined, 'iptables', 'nftables', '', 'other', 7]) {
    main(`ipMasq by ${show(ipMasqBackend)}`, { ipMasq: true, ipMasqBackend, isGateway: true }, v4, {
      version: '1.0.0',
      steps,
    });
  }
  main('ipMasq by iptables, dual', { ipMasq: true, ipMasqBackend: 'iptables', isGateway: true }, dual, {
    version: '1.0.0',
    steps,
  });
  main(
    'ipMasq by iptables, DEL without a namespace',
    { ipMasq: true, ipMasqBackend: 'iptables', isGateway: true },
    v4,
    {
      version: '1.0.0',
      steps: [{ command: 'ADD' }, { command: 'DEL', prevResult: 'added', netns: '' }],
    },
  );
  main('ipMasq by iptables, L2', { ipMasq: true, ipMasqBackend: 'iptables' }, undefined, { version: '1.0.0' });
  main('ipMasqBackend alone', { ipMasqBackend: 'other' });
  main('ipMasq false', { ipMasq: false });
  main('ipMasq "x"', { ipMasq: 'x' });
  for (const vlan of [100, 1, 4094]) main(`vlan ${vlan}`, { vlan });
  for (const vlan of [0, 4095, 5000, -1, '100', null, 1.5]) main(`vlan ${show(vlan)}`, { vlan });
  main('macspoofchk', { macspoofchk: true }, v4, { version: '1.0.0', steps });
  main('macspoofchk, L2', { macspoofchk: true }, undefined, {
    version: '1.0.0',
    steps: steps.filter(({ command }) => command !== 'CHECK'),
  });
  main('macspoofchk and ipMasq', { macspoofchk: true, ipMasq: true, ipMasqBackend: 'iptables', isGateway: true }, v4, {
    version: '1.0.0',
    steps,
  });
  for (const value of [null, 'true', 1]) main(`macspoofchk ${show(value)}`, { macspoofchk: value });
  main('macspoofchk false', { macspoofchk: false });
}

export function layerTwo({ add, life, main }: Family): void {
  for (const section of [undefined, null, {}, { type: '' }]) {
    const name = `L2, ipam ${show(section)}`;
    add({
      name: `bridge: ${name}`,
      program: 'main',
      configuration: { cniVersion: '1.0.0', name: 'net', type: '@main', bridge: 'br0', ipam: section },
      steps: life(name, '1.0.0'),
    });
  }
  main('L2 at 0.2.0', {}, undefined, { version: '0.2.0' });
  main('L2 with a gateway', { isGateway: true, isDefaultGateway: true }, undefined);
  main('L2 with an MTU, hairpin', { mtu: 1400, hairpinMode: true }, undefined);
  for (const section of ['x', 7, []]) main(`ipam ${show(section)}`, {}, section);
  for (const type of ['absent-plugin', '../bridge', '/bin/true', 7, null])
    main(`ipam.type ${show(type)}`, {}, { ...v4, type });
}

/** A bridge or another link has the bridge's name before the first call. */
export function presentBridges({ main }: Family): void {
  const there = (...lines: string[]): { host: string[] } => ({ host: ['link add br0 type bridge', ...lines] });
  main('a bridge that is there', { isGateway: true }, v4, there());
  main('a bridge that is there, up', { isGateway: true }, v4, there('link set br0 up'));
  main('a bridge with the address', { isGateway: true }, v4, there('addr add 10.1.2.1/24 dev br0', 'link set br0 up'));
  main(
    'a bridge with the address and another',
    { isGateway: true },
    v4,
    there('addr add 10.1.2.1/24 dev br0', 'addr add 10.9.9.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with another address',
    { isGateway: true },
    v4,
    there('addr add 10.9.9.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with another address, forced',
    { isGateway: true, forceAddress: true },
    v4,
    there('addr add 10.9.9.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with two others, forced',
    { isGateway: true, forceAddress: true },
    v4,
    there('addr add 10.9.9.1/24 dev br0', 'addr add 10.9.8.1/24 dev br0', 'link set br0 up'),
  );
  main(
    'a bridge with another address of the subnet',
    { isGateway: true },
    v4,
    there('addr add 10.1.2.5/24 dev br0', 'link set br0 up'),
  );
  main('a bridge with another address, no gateway', {}, v4, there('addr add 10.9.9.1/24 dev br0', 'link set br0 up'));
  main('a bridge with a v6 address', { isGateway: true }, v4, there('addr add fd09::1/64 dev br0', 'link set br0 up'));
  main('a bridge with an MTU', { mtu: 1400 }, v4, there('link set br0 mtu 1300'));
  main('a bridge of another MTU and forward delay', {}, v4, {
    host: ['link add br0 mtu 1300 type bridge forward_delay 0'],
  });
  main('a bridge with promisc', { promiscMode: false }, v4, there('link set br0 promisc on'));
  main('no bridge of that name', {}, v4, { host: ['link add br0 type veth peer name other'] });
  main('a veth of that name, down', { isGateway: true }, v4, {
    host: ['link add br0 type veth peer name br1', 'link set br0 up'],
  });
}
