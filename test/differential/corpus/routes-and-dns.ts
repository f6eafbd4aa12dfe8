/** Routes and DNS, from the configuration and from a `resolvConf`. */

import { dual, type Family, show, v4, v6 } from './family.ts';

export function routesAndDns({ drawFor, ipam, main }: Family): void {
  const routes: unknown[] = [
    [{ dst: '0.0.0.0/0' }],
    [{ dst: '0.0.0.0/0', gw: '10.1.2.1' }],
    [{ dst: '10.0.0.0/8' }, { dst: '192.168.0.0/16', gw: '10.1.2.9' }],
    [{ dst: '::/0' }],
    [{ dst: '192.168.5.7/16' }],
    [{ dst: '192.168.5.7/32', gw: '' }],
    [],
    null,
    {},
    'x',
    [null],
    [{}],
    [{ dst: 'x' }],
    [{ dst: '10.0.0.0' }],
    [{ dst: '10.0.0.0/8', gw: 'x' }],
    [{ dst: 7 }],
    [{ gw: '10.1.2.1' }],
    [{ dst: '10.0.0.0/8', mtu: 1400, advmss: 1360 }],
    [{ dst: '10.0.0.0/8', mtu: 'x' }],
    [{ dst: '10.0.0.0/8', colour: 'blue' }],
    [{ DST: '10.0.0.0/8', GW: '10.1.2.1' }],
    [{ dst: '10.0.0.0/8' }, { dst: '10.0.0.0/8' }],
  ];
  for (const list of routes) {
    ipam(`routes ${show(list)}`, { ...v4, routes: list });
    main(`routes ${show(list)}`, { isGateway: drawFor(`routes ${show(list)}`).chance(0.5) }, { ...v4, routes: list });
  }
  main('routes v6', { isGateway: true }, { ...dual, routes: [{ dst: '::/0' }, { dst: 'fd09::/32', gw: 'fd00:1::9' }] });
  main('routes out of reach', { isGateway: true }, { ...v4, routes: [{ dst: '192.168.0.0/16', gw: '203.0.113.7' }] });
  main('routes of another family', { isGateway: true }, { ...v4, routes: [{ dst: 'fd09::/32', gw: '10.1.2.1' }] });
  main('IPv4 routes of an IPv6 container', {}, { ...v6, routes: [{ dst: '192.168.0.0/16' }] });
  main('routes of a family without an address', { isGateway: true }, { ...v4, routes: [{ dst: 'fd09::/32' }] });

  const files = {
    'resolv.conf':
      'nameserver 192.0.2.3\nnameserver 192.0.2.4\n# comment\n; another\n  search a.example b.example\nsearch c.example\ndomain d.example\noptions ndots:2 rotate\noptions timeout:1\nsortlist 1\n',
    empty: '',
    odd: 'nameserver\nsearch\nnameserver x\n\tdomain\td.example\t\nnameserver 192.0.2.3 # why\nNAMESERVER 192.0.2.9\n',
    windows: 'nameserver 192.0.2.3\r\nsearch a.example\r\n',
  };
  for (const file of [...Object.keys(files), 'absent', '']) {
    ipam(`resolvConf ${file}`, { ...v4, resolvConf: file === '' ? '' : `@folder/${file}` }, { files });
  }
  for (const resolvConf of ['@folder', 7, null, []]) ipam(`resolvConf ${show(resolvConf)}`, { ...v4, resolvConf });
  ipam('resolvConf at 0.2.0', { ...v4, resolvConf: '@folder/resolv.conf' }, { files, version: '0.2.0' });
  for (const dns of [
    { nameservers: ['192.0.2.9'] },
    { nameservers: ['192.0.2.9'], domain: 'x.example', search: ['x.example'], options: ['ndots:5'] },
    { domain: 'x.example' },
    { nameservers: ['not an address'] },
    { nameservers: [] },
    {},
    null,
    'x',
    [],
    { nameservers: 'x' },
    { nameservers: [7] },
    { domain: 7 },
    { search: {} },
    { NameServers: ['192.0.2.9'] },
    { colour: 'blue' },
  ]) {
    main(
      `dns ${show(dns)}`,
      { dns },
      drawFor(`dns ${show(dns)}`).chance(0.5) ? v4 : { ...v4, resolvConf: '@folder/resolv.conf' },
      { files },
    );
  }
}
