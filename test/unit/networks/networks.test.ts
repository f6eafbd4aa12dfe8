/** Lists of plugins and cached results, as libcni writes them and as others may damage them. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type CachedResult, formatCachedResult, parseCachedResult } from '../../../networks/cached-results.ts';
import { NetworkError, parseNetworkList } from '../../../networks/list.ts';

const test = suite('networks');

const entry: CachedResult = {
  network: 'lan',
  containerId: 'pid-7-99',
  ifname: 'eth1',
  netns: '/proc/7/ns/net',
  args: [['IgnoreUnknown', '1']],
  capabilityArgs: {},
  config: '{"name":"lan"}',
  result: { cniVersion: '1.0.0', ips: [{ address: '10.1.2.3/24' }] },
  attachedBy: { runtime: 'pid', name: '', pid: 7, startTime: '99', since: '2026-11-28T00:00:00.000Z' },
};

test('a cached result is read as it was written', () => {
  assert.equal(parseCachedResult(formatCachedResult(entry)), entry);
});

test("libcni's own entry is read, and has no container of weftctl's", () => {
  // As libcni 1.1 writes it for Podman.
  const text =
    '{"kind":"cniCacheV1","containerId":"abc","config":"e30=","ifName":"eth0","networkName":"podman","netns":"/run/netns/x",' +
    '"cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","web"]],"capabilityArgs":{"ips":["10.1.2.3"]},"result":{"cniVersion":"0.4.0"}}';
  const read = parseCachedResult(text)!;
  assert.equal([read.config, read.ifname, read.args.length, read.attachedBy], ['{}', 'eth0', 2, undefined]);
  assert.equal(read.capabilityArgs, { ips: ['10.1.2.3'] });
});

test('anything else is no cached result', () => {
  const good = JSON.parse(formatCachedResult(entry)) as Record<string, unknown>;
  const damaged: unknown[] = [
    ...['', '\0\0\0', '[]', 'null', '{}', '{"kind":"cniCacheV1"}'],
    ...[{ containerId: '../x' }, { containerId: 7 }, { networkName: 'a/b' }, { ifName: '../../x' }, { ifName: '' }].map(
      (wrong) => JSON.stringify({ ...good, ...wrong }),
    ),
  ];
  for (const text of damaged) assert.is(parseCachedResult(text as string), undefined, String(text));
  for (const weft of [
    7,
    null,
    {},
    { runtime: 'pid' },
    { ...entry.attachedBy, pid: '7' },
    { ...entry.attachedBy, pid: 1.5 },
  ]) {
    assert.is(parseCachedResult(JSON.stringify({ ...good, weft }))?.attachedBy, undefined, JSON.stringify(weft));
  }
});

test('a list of plugins, and a file of one plugin', () => {
  const list = parseNetworkList(
    '{"cniVersion":"0.4.0","name":"a","plugins":[{"type":"weft"},{"type":"tuning"}]}',
    'it',
  );
  assert.equal([list.name, list.cniVersion, list.plugins.length, list.disableCheck], ['a', '0.4.0', 2, false]);
  const single = parseNetworkList('{"name":"b","type":"bridge","cniVersions":["0.4.0","1.1.0","9.9.9"]}', 'it');
  assert.equal([single.name, single.cniVersion, single.plugins.map(({ type }) => type)], ['b', '1.1.0', ['bridge']]);
});

test('a list that cannot be used is refused with the reason', () => {
  for (const [text, pattern] of [
    ['', /^it is not JSON$/],
    ['[]', /it is not a JSON object/],
    ['{"plugins":[{"type":"x"}]}', /has the "name" nothing/],
    ['{"name":"../x","type":"y"}', /has the "name" "..\/x"/],
    ['{"name":"a","plugins":[]}', /lists no plugins/],
    ['{"name":"a"}', /names no plugin/],
    ['{"name":"a","plugins":[{"type":"x"},7]}', /lists 7, which names no plugin/],
  ] as const) {
    assert.throws(
      () => parseNetworkList(text, 'it'),
      (error: unknown) => error instanceof NetworkError && pattern.test(error.message),
    );
  }
});

test.run();
