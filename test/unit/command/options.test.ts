import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { etcdOptions } from '../../../cluster/etcd/options.ts';
import { formatOptions, type OptionSpec, parseOptions, suggestion, UsageError } from '../../../command/options.ts';

const test = suite('command/options');
const specs: readonly OptionSpec[] = [
  ...etcdOptions,
  { name: 'iface', kind: 'list', help: 'interface' },
  { name: 'pattern', kind: 'list', takesCommas: true, help: 'pattern' },
  { name: 'ip-masq', kind: 'flag', help: 'masquerade' },
  { name: 'margin', kind: 'integer', help: 'minutes', lowest: 1, highest: 60, byDefault: '60' },
  { name: 'version', kind: 'flag', help: 'version', commandLineOnly: true },
];
const parse = (args: string[], environment: Record<string, string> = {}) => parseOptions(specs, args, environment);
const refused = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('accepted');
};

test('one dash or two, with a space or an equals sign', () => {
  for (const args of [
    ['--etcd-prefix', '/a'],
    ['-etcd-prefix', '/a'],
    ['--etcd-prefix=/a'],
    ['-etcd-prefix=/a'],
    ['--etcd-prefix', '/b', '--etcd-prefix', '/a'],
  ]) {
    assert.is(parse(args).text('etcd-prefix'), '/a', args.join(' '));
  }
  assert.is(parse(['--etcd-password=a=b']).text('etcd-password'), 'a=b');
  assert.is(parse(['--etcd-password', '-x']).text('etcd-password'), '-x', 'a value may begin with a dash');
});

test('flags as Go has them', () => {
  assert.is(parse(['--ip-masq', 'word']).flag('ip-masq'), true);
  assert.equal(parse(['--ip-masq', 'word']).words, ['word']);
  assert.is(parse(['-ip-masq=false']).optionalFlag('ip-masq'), false);
  assert.is(parse(['-ip-masq=T']).flag('ip-masq'), true);
  assert.is(parse([]).optionalFlag('ip-masq'), undefined);
  assert.is(
    refused(() => parse(['--ip-masq=maybe'])),
    'Option --ip-masq is "maybe": it must be true or false',
  );
});

test('lists, integers, words', () => {
  assert.equal(parse(['--iface', 'a', 'x', '-iface=b']).list('iface'), ['a', 'b']);
  assert.equal(parse(['x', '--', '--iface', '-']).words, ['x', '--iface', '-']);
  assert.equal(parse(['-']).words, ['-']);
  assert.is(parse(['--margin', '5']).integer('margin'), 5);
  assert.is(
    refused(() => parse(['--margin', '0'])),
    'Option --margin is "0": it must be a whole number from 1 to 60',
  );
  assert.match(
    refused(() => parse(['--margin=x'])),
    /"x"/,
  );
});

test('the environment: WEFTD_ before FLANNELD_, the command line before both', () => {
  const environment = {
    WEFTD_ETCD_PREFIX: '/w',
    FLANNELD_ETCD_PREFIX: '/f',
    FLANNELD_IFACE: 'a,b',
    FLANNELD_IP_MASQ: '1',
  };
  assert.is(parse([], environment).text('etcd-prefix'), '/w');
  assert.is(parse(['--etcd-prefix', '/c'], environment).text('etcd-prefix'), '/c');
  assert.is(parse([], { FLANNELD_ETCD_PREFIX: '/f', WEFTD_ETCD_PREFIX: '' }).text('etcd-prefix'), '/f');
  assert.equal(parse([], environment).list('iface'), ['a', 'b']);
  assert.equal(parse([], { WEFTD_PATTERN: 'a{1,2}' }).list('pattern'), ['a{1,2}']);
  assert.is(parse([], environment).flag('ip-masq'), true);
  assert.is(parse([], { WEFTD_VERSION: 'true' }).has('version'), false);
  assert.is(
    refused(() => parse([], { WEFTD_MARGIN: 'x' })),
    'Option WEFTD_MARGIN is "x": it must be a whole number from 1 to 60',
  );
});

test('unknown ones, with the nearest', () => {
  assert.is(
    refused(() => parse(['--etcd-prefx=1'])),
    'Unknown option "--etcd-prefx=1"; did you mean "--etcd-prefix"?',
  );
  assert.is(
    refused(() => parse(['--zzz'])),
    'Unknown option "--zzz"',
  );
  assert.is(
    refused(() => parse(['--etcd-prefix'])),
    'Option "--etcd-prefix" needs a value',
  );
  assert.is(suggestion('stats', ['status', 'nodes']), '; did you mean "status"?');
});

test('the help is aligned', () => {
  const lines = formatOptions(specs).split('\n');
  assert.is(lines.length, specs.length);
  const columns = lines.map((line) =>
    line.indexOf(line.slice(2).match(/ {2}(\S)/)![1]!, line.slice(2).indexOf('  ') + 4),
  );
  assert.is(new Set(columns).size, 1);
  assert.match(lines.join('\n'), /--margin N +minutes \(60\)/);
});

test.run();
