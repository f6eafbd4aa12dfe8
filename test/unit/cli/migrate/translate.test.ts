import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { translateOptions } from '../../../../cli/migrate/translate.ts';
import { parseDaemonOptions } from '../../../../daemon/options.ts';

const test = suite('cli/migrate/translate');

const settings = (args: readonly string[], environment: Record<string, string> = {}) =>
  Object.fromEntries(translateOptions(args, environment).settings);

test('options of the command line and of the environment, in all forms of Go', () => {
  assert.equal(
    settings(
      ['-etcd-endpoints=http://192.0.2.1:2379', '--iface', 'eth1', '-ip-masq', '--iptables-forward-rules=false'],
      {
        FLANNELD_PUBLIC_IP: '192.0.2.7',
        FLANNELD_IFACE: 'eth9',
        WEFTD_NODE: 'x',
        HOME: '/root',
      },
    ),
    {
      'etcd-endpoints': 'http://192.0.2.1:2379',
      iface: 'eth1',
      'public-ip': '192.0.2.7',
      'ip-masq': 'true',
      'iptables-forward-rules': 'false',
    },
  );
});

test('options that may be given several times', () => {
  assert.is(settings(['-iface=eth1', '-iface=eth2'])['iface'], 'eth1,eth2');
  assert.is(settings(['-iface-regex=10,1'])['iface-regex'], '10,1');
  assert.is(settings(['-iface-regex=^en', '-iface-regex=^eth'])['iface-regex'], '(?:^en)|(?:^eth)');
});

test('flanneld answers probes on every address', () => {
  assert.is(settings(['-healthz-port=8471'])['healthz-ip'], '0.0.0.0');
  assert.is(settings(['-healthz-port=8471', '-healthz-ip=127.0.0.1'])['healthz-ip'], '127.0.0.1');
  assert.is(settings(['-healthz-port=0'])['healthz-ip'], undefined);
});

test('options without a meaning are named; those of former flannels hinder', () => {
  assert.equal(translateOptions(['-v=3', '-iptables-resync', '10', '-logtostderr'], {}).ignored, [
    'iptables-resync',
    'v',
    'logtostderr',
  ]);
  const { hindrances, settings: none } = translateOptions(['-remote=192.0.2.1:8888', '-networks=blue'], {});
  assert.is(none.size, 0);
  assert.match(hindrances.join('\n'), /^Option --remote belongs to .*\nOption --networks served several networks/);
  assert.match(translateOptions(['--no-such=1'], {}).hindrances[0]!, /Unknown option "--no-such=1"/);
  assert.match(translateOptions(['--iface'], {}).hindrances[0]!, /needs a value/);
});

test('weftd understands every setting', () => {
  const args = [
    '-etcd-endpoints=http://192.0.2.1:2379',
    '-iface-regex=^en',
    '-iface-regex=^eth',
    '-iface-can-reach=192.0.2.9',
  ];
  const more = ['-subnet-lease-renew-margin=30', '-ip-masq', '-ip-masq-fully-random-disable', '-healthz-port=99'];
  const environment = Object.fromEntries(
    Object.entries(settings([...args, ...more, '-subnet-file=/run/x.env', '-public-ip=192.0.2.7'])).map(
      ([name, value]) => [`WEFTD_${name.toUpperCase().replaceAll('-', '_')}`, value],
    ),
  );
  const options = parseDaemonOptions([], environment);
  assert.equal([options.ipMasq, options.renewMarginMs, options.subnetFile], [true, 1_800_000, '/run/x.env']);
});

test.run();
