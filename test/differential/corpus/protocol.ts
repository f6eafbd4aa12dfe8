/** The protocol itself: stdin, the environment and `prevResult`. */

import type { Keys, Step } from './case.ts';
import { type Family, show, v4 } from './family.ts';
import { previousResults } from './previous-results.ts';

export function protocol({ add, life }: Family): void {
  const bare = (keys: Keys): Keys => ({
    cniVersion: '1.0.0',
    name: 'net',
    type: '@main',
    ipam: { type: '@ipam', dataDir: '@store', ...v4 },
    ...keys,
  });
  const raw = (name: string, configuration: string | Keys, steps: readonly Step[] = life(name, 'none')): void => {
    add({ name: `protocol: ${name}`, program: 'ipam', configuration, steps });
  };
  for (const text of [
    '',
    ' ',
    '{',
    '{}',
    '[]',
    'null',
    '"x"',
    '7',
    'true',
    '{"name":"net"',
    '{"name":"net"}x',
    '{"name":"net"}{"name":"net"}',
    "{'name':'net'}",
    '{"name":"net",}',
    '\ufeff{"name":"net"}',
    '// no\n{}',
    '{"name":"net","cniVersion":"1.0.0","cniVersion":"9.9.9"}',
    '{"name":"\\u006eet","cniVersion":"1.0.0"}',
    '{"name":"n\\u0000t"}',
    '{"name":"net","cniVersion":"1.0.0","ipam":NaN}',
    '{"name":"net","cniVersion":"1.0.0","ipam":1e999}',
    `${'['.repeat(500)}${']'.repeat(500)}`,
    `{"name":"net","cniVersion":"1.0.0","x":${'['.repeat(500)}${']'.repeat(500)},"ipam":{"type":"@ipam","dataDir":"@store","subnet":"10.1.2.0/24"}}`,
  ]) {
    raw(`stdin ${text.slice(0, 60)}`, text);
  }
  for (const cniVersion of [
    '0.1.0',
    '0.2.0',
    '0.3.0',
    '0.3.1',
    '0.4.0',
    '1.0.0',
    '',
    null,
    undefined,
    '1.1.0',
    '9.9.9',
    '1.0',
    '0.4.1',
    '1',
    'asdf',
    7,
    '1.0.0 ',
    'v1.0.0',
    '1.0.0-rc1',
    '0.4',
    {},
  ]) {
    raw(`cniVersion ${show(cniVersion)}`, bare({ cniVersion }));
    raw(`CHECK at cniVersion ${show(cniVersion)}`, bare({ cniVersion }), [
      { command: 'ADD' },
      { command: 'CHECK', prevResult: 'added' },
      { command: 'DEL' },
    ]);
  }
  for (const name of [undefined, null, 7, [], {}]) raw(`name ${show(name)}`, bare({ name }));
  for (const type of [undefined, null, '', 7, 'other']) raw(`type ${show(type)}`, bare({ type }));
  for (const section of [undefined, null, 7, 'x', [], {}]) raw(`ipam ${show(section)}`, bare({ ipam: section }));
  for (const type of [undefined, null, '', 7, 'other']) {
    raw(`ipam.type ${show(type)}`, bare({ ipam: { type, dataDir: '@store', ...v4 } }));
  }
  raw('keys in other cases', {
    CNIVERSION: '1.0.0',
    Name: 'net',
    TYPE: '@main',
    IPAM: { Type: '@ipam', DATADIR: '@store', Ranges: [[{ Subnet: '10.1.2.0/24', RANGESTART: '10.1.2.9' }]] },
  });
  raw(
    'keys in two cases',
    '{"cniVersion":"1.0.0","name":"net","Name":"other","ipam":{"type":"@ipam","dataDir":"@store","subnet":"10.1.2.0/24","SUBNET":"10.9.2.0/24"}}',
  );
  raw(
    'keys in two cases, other order',
    '{"cniVersion":"1.0.0","Name":"other","name":"net","ipam":{"type":"@ipam","dataDir":"@store","SUBNET":"10.9.2.0/24","subnet":"10.1.2.0/24"}}',
  );
  raw(
    'keys twice',
    '{"cniVersion":"1.0.0","name":"net","name":"other","ipam":{"type":"@ipam","dataDir":"@store","subnet":"10.1.2.0/24","subnet":"10.9.2.0/24"}}',
  );
  raw('unknown keys', bare({ colour: 'blue', capabilities: { ips: true }, plugins: [], disableCheck: true }));
  raw('a long K', bare({ x: 'K'.repeat(100_000) }));
  raw(
    'Kelvin sign and long s fold as Go folds them',
    '{"cniVer\u017fion":"1.0.0","name":"net","ipam":{"type":"@ipam","dataDir":"@store","\u017fubnet":"10.1.2.0/24"}}',
  );

  const good = bare({});
  const calls: [string, Omit<Step, 'command'>, string?][] = [
    ['no CNI_CONTAINERID', { environment: { CNI_CONTAINERID: '' } }],
    ['no CNI_IFNAME', { environment: { CNI_IFNAME: '' } }],
    ['no CNI_NETNS', { netns: '' }],
    ['no CNI_PATH', { path: '' }],
    ['nothing', { environment: { CNI_CONTAINERID: '', CNI_IFNAME: '' }, netns: '', path: '' }],
    ['an absent namespace', { netns: '/run/netns/absent-x' }],
    ['a relative CNI_PATH', { path: '.' }],
    ['CNI_PATH :', { path: ':' }],
    ...['%%', '-a', 'a\n', 'a b', 'a/b', '..', '.a', '_a', 'A.b_c-9', 'x'.repeat(300), 'é'].map(
      (id): [string, Omit<Step, 'command'>] => [`id ${show(id)}`, { id }],
    ),
    ...[
      '.',
      '..',
      'a b',
      'a/b',
      'a:b',
      'x'.repeat(15),
      'x'.repeat(16),
      'ethé',
      'a\tb',
      '-',
      'a@b',
      'a%d',
      'é'.repeat(8),
      'a\u00a0b',
    ].map((ifname): [string, Omit<Step, 'command'>] => [`ifname ${show(ifname)}`, { ifname }]),
  ];
  for (const [name, step] of calls) raw(name, good, life(name, '1.0.0', step));
  for (const command of ['ADD ', 'add', 'Del', 'FOO', 'GC', 'STATUS'])
    raw(`command ${show(command)}`, good, [{ command }]);
  raw('FOO without stdin', '', [{ command: 'FOO' }]);
  for (const [name, prevResult] of previousResults) {
    raw(`CHECK of ${name}`, good, [
      { command: 'ADD' },
      { command: 'CHECK', prevResult },
      { command: 'DEL', prevResult },
    ]);
  }
}
