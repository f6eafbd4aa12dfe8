import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { helpText, parseDaemonOptions } from '../../../daemon/options.ts';
import { address } from './overlay/cluster-of.ts';

const test = suite('daemon/options');

const parse = (...args: string[]) => parseDaemonOptions(args, {});
const errorOf = (...args: string[]): string => {
  try {
    parse(...args);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('it was accepted');
};

test('defaults', () => {
  const options = parse();
  assert.is(options.runDir, '/run/weft');
  assert.is(options.stateDir, '/var/lib/weft');
  assert.is(options.procSysDir, '/proc/sys');
  assert.is(options.subnetFile, '/run/flannel/subnet.env');
  assert.is(options.renewMarginMs, 3_600_000);
  assert.is(options.ipMasq, false);
  assert.is(options.logLevel, 'info');
  assert.is(options.logFormat, undefined);
  assert.equal(options.choice, { names: [], patterns: [], canReach: undefined, publicAddresses: {} });
});

test("flanneld's command line as it stands in a unit file", () => {
  const options = parse(
    '-etcd-endpoints=http://10.0.0.1:2379',
    '-etcd-prefix=/net',
    '-iface=eth1',
    '-iface=eth0',
    '-ip-masq',
    '-public-ip=192.0.2.1',
    '-subnet-lease-renew-margin=30',
    '-healthz-port=8080',
    '-iptables-resync=5',
  );
  assert.equal(options.etcd, { endpoints: ['http://10.0.0.1:2379'], prefix: '/net' });
  assert.equal(options.choice.names, ['eth1', 'eth0']);
  assert.is(options.ipMasq, true);
  assert.equal(options.choice.publicAddresses, { 4: address('192.0.2.1') });
  assert.is(options.renewMarginMs, 1_800_000);
  assert.equal(options.healthz, { address: address('127.0.0.1'), port: 8080 });
  assert.equal(options.ignored, ['--iptables-resync']);
});

test('the folder of the kernel settings can be elsewhere', () => {
  assert.is(parse('--proc-sys-dir', '/host/proc/sys/').procSysDir, '/host/proc/sys');
  assert.is(errorOf('--proc-sys-dir', 'sys'), 'Option --proc-sys-dir is "sys": it must be an absolute path');
});

test('health is answered where it is said, on the host itself unless it is said, and nowhere without a port', () => {
  assert.is(parse().healthz, undefined);
  assert.is(parse('--healthz-ip', '0.0.0.0', '--healthz-port', '0').healthz, undefined);
  assert.equal(parse('--healthz-ip', '::', '--healthz-port', '10256').healthz, {
    address: address('::'),
    port: 10_256,
  });
  assert.throws(() => parse('--healthz-ip', 'localhost'), /--healthz-ip is "localhost": it must be an IP address/);
  assert.throws(() => parse('--healthz-port', '65536'), /healthz-port/);
  assert.throws(() => parse('--healthz-port', 'http'), /healthz-port/);
});

test('from the environment: its own names before those of flanneld; the command line before both', () => {
  const environment = { WEFTD_IFACE: 'eth1', FLANNELD_IFACE: 'eth2', FLANNELD_IP_MASQ: 'true', WEFTD_RUN_DIR: '/a' };
  const options = parseDaemonOptions(['--run-dir', '/b/'], environment);
  assert.equal(options.choice.names, ['eth1']);
  assert.is(options.ipMasq, true);
  assert.is(options.runDir, '/b');
});

test('the packet filter: everything is on unless it is said otherwise', () => {
  assert.equal(parse().filter, { peerLock: true, forward: true, randomPorts: true });
  assert.equal(parse('--peer-lock=off', '--iptables-forward-rules=false', '--ip-masq-fully-random-disable').filter, {
    peerLock: false,
    forward: false,
    randomPorts: false,
  });
  assert.equal(parseDaemonOptions([], { FLANNELD_IPTABLES_FORWARD_RULES: 'false' }).filter.forward, false);
  assert.is(errorOf('--peer-lock', 'no'), 'Option --peer-lock is "no": it must be one of on, off');
});

test('leaving is never asked for by the environment', () => {
  assert.is(parseDaemonOptions([], { WEFTD_LEAVE: 'true' }).leave, false);
  assert.is(parse('--leave').leave, true);
  assert.is(parse('--leave').leaveLocally, false);
  assert.is(parse('--leave', '--local').leaveLocally, true);
  assert.is(parse('--leave', '--to-flanneld').leaveToFlanneld, true);
  assert.is(errorOf('--local'), 'Option --local needs --leave');
});

test('errors name the option, the value and what it must be', () => {
  assert.is(errorOf('--public-ip', 'x'), 'Option --public-ip is "x": it must be an IPv4 address');
  assert.is(errorOf('--public-ip', '::1'), 'Option --public-ip is "::1": it must be an IPv4 address');
  assert.is(errorOf('--public-ipv6', '192.0.2.1'), 'Option --public-ipv6 is "192.0.2.1": it must be an IPv6 address');
  assert.is(
    errorOf('--iface-regex', '(?=eth)'),
    'Option --iface-regex is "(?=eth)": error parsing regexp: invalid or unsupported Perl syntax: `(?=`',
  );
  assert.is(errorOf('--run-dir', 'weft'), 'Option --run-dir is "weft": it must be an absolute path');
  assert.is(errorOf('--log-level', 'loud'), 'Option --log-level is "loud": it must be one of debug, info, warn, error');
  assert.match(errorOf('--subnet-lease-renew-margin', '0'), /from 1 to 1439/);
  assert.match(errorOf('--node', 'a b'), /^Option --node is "a b": it must be a host name/);
  assert.match(errorOf('start'), /^Unexpected argument "start"/);
});

test("options of flanneld's logger have no effect, and those that it had in former times are told by what they are", () => {
  const { ignored } = parse('--logtostderr=false', '--log_dir=/var/log', '-v', '4', '--vmodule', 'x=1');
  assert.equal(ignored, ['--v', '--logtostderr', '--vmodule', '--log_dir']);
  assert.match(errorOf('-remote=10.0.0.1:8888'), /^Option --remote belongs to flanneld's client and server mode, /);
  assert.match(errorOf('--networks', 'a,b'), /^Option --networks served several networks .* --etcd-prefix/);
  assert.match(errorOf('--use-multi-cluster-cidr'), /--kube-subnet-mgr$/);
  assert.match(errorOf('--charon-viciuri=x'), /the ipsec backend, which weftd does not have$/);
  assert.match(errorOf('--etcd-endpoint', 'x'), /Unknown option .*; did you mean "--etcd-endpoints"\?/);
});

test('the help names every option once', () => {
  const names = [...helpText().matchAll(/^ {2}--([a-z0-9-]+)/gm)].map((match) => match[1]!);
  assert.is(new Set(names).size, names.length);
  for (const name of ['etcd-endpoints', 'iface', 'leave', 'log-format', 'state-dir']) assert.ok(names.includes(name));
});

test("flanneld's command line in Kubernetes; the node's name is kubelet's", () => {
  const args = ['--kube-subnet-mgr', '--ip-masq', '--kubeconfig-file=/etc/kubeconfig', '--net-config-path=/conf.json'];
  const options = parseDaemonOptions(args, { NODE_NAME: 'node-7' });
  assert.equal(options.kubernetes, {
    kubeconfigFile: '/etc/kubeconfig',
    annotationPrefix: 'flannel.alpha.coreos.com/',
    netConfigPath: '/conf.json',
    setNetworkUnavailable: true,
  });
  assert.is(options.node, 'node-7');
  assert.is(parseDaemonOptions([...args, '--node', 'other'], { NODE_NAME: 'node-7' }).node, 'other');
  assert.is(
    parseDaemonOptions(['--set-node-network-unavailable=false', ...args], {}).kubernetes!.setNetworkUnavailable,
    false,
  );
  assert.is(parseDaemonOptions([], { NODE_NAME: 'node-7' }).node, undefined, 'without Kubernetes it is not read');
  assert.throws(() => parseDaemonOptions(args, { NODE_NAME: 'a b' }), /^Environment variable NODE_NAME is "a b"/);
});

test.run();
