/**
 * `weftctl docker-opts` and its name `mk-docker-opts.sh`. The expected files were made by flannel's script, run by dash with
 * the same arguments.
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { execute, lookForProgram, run as runProgram } from '../lab/commands.ts';
import { root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('docker-opts');
const scratch = fixture(
  test,
  () => new Scratch('docker-opts'),
  (made) => made.remove(),
);

const subnetEnv = `FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.74.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
`;

const bip = 'DOCKER_OPT_BIP="--bip=10.1.74.1/24"\n';
const masq = 'DOCKER_OPT_IPMASQ="--ip-masq=false"\n';
const mtu = 'DOCKER_OPT_MTU="--mtu=1472"\n';
const all = 'DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=false --mtu=1472"\n';

function run(args: readonly string[], text: string | undefined, environment: Record<string, string> = {}) {
  const folder = scratch().makeFolder(`d${Math.round(performance.now() * 1000)}`);
  const [from, to] = [join(folder, 'subnet.env'), join(folder, 'docker.env')];
  if (text !== undefined) writeFileSync(from, text);
  const script = join(root, 'dist/bin/mk-docker-opts.sh');
  const { status, stdout, stderr } = execute([script, '-f', from, '-d', to, ...args], { environment });
  assert.is(stdout, '');
  return { status, stderr, file: existsSync(to) ? readFileSync(to, 'utf8') : undefined };
}

/** In lines: arguments, flannel's file, the environment, the file for Docker. */
const cases: readonly [args: string, text: string | undefined, environment: Record<string, string>, file: string][] = [
  ['', subnetEnv, {}, bip + masq + mtu + all],
  ['-i', subnetEnv, {}, bip + masq + mtu],
  ['-c', subnetEnv, {}, all],
  ['-ic', subnetEnv, {}, bip + masq + mtu + all],
  ['-i -c', subnetEnv, {}, bip + masq + mtu + all],
  ['-im', subnetEnv, {}, bip + mtu],
  ['-m', subnetEnv, {}, `${bip}${mtu}DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"\n`],
  ['-ck X', subnetEnv, {}, all.replace('DOCKER_OPTS', 'X')],
  ['-ckY_1', subnetEnv, {}, all.replace('DOCKER_OPTS', 'Y_1')],
  // A word ends the options, and is ignored.
  ['word -i', subnetEnv, {}, bip + masq + mtu + all],
  ['-i', subnetEnv.replace('true', 'false'), {}, bip + masq.replace('false', 'true') + mtu],
  ['-c', 'FLANNEL_SUBNET="10.1.74.1/24"\n', {}, 'DOCKER_OPTS=" --bip=10.1.74.1/24"\n'],
  ['', '', {}, 'DOCKER_OPTS=""\n'],
  ['', undefined, {}, 'DOCKER_OPTS=""\n'],
  ['-i', undefined, {}, ''],
  [
    '',
    undefined,
    { FLANNEL_SUBNET: '10.9.1.1/24' },
    'DOCKER_OPT_BIP="--bip=10.9.1.1/24"\nDOCKER_OPTS=" --bip=10.9.1.1/24"\n',
  ],
  ['-c', subnetEnv, { DOCKER_OPTS: '--debug' }, all.replace('" --bip', '"--debug  --bip')],
  ['-i', subnetEnv, { DOCKER_OPT_X: '--x' }, `${bip}${masq}${mtu}DOCKER_OPT_X="--x"\n`],
];

for (const [args, text, environment, expected] of cases) {
  const what = [args || 'no option', text === subnetEnv ? '' : JSON.stringify(text), ...Object.keys(environment)];
  test(`the file is that of flannel's script: ${what.filter((word) => word !== '').join(', ')}`, () => {
    const { status, stderr, file } = run(args === '' ? [] : args.split(' '), text, environment);
    assert.is(file, expected);
    assert.is(stderr, '');
    assert.is(status, 0);
  });
}

test('a wrong option, or a value that is none, ends with status 1 and no file', () => {
  for (const [args, text, said] of [
    [['-z'], subnetEnv, /Illegal option -z\n[\s\S]*Generate Docker daemon options/],
    [['-h'], subnetEnv, /OPTIONS:/],
    [['-k'], subnetEnv, /No arg for -k option/],
    [['-k', 'a b'], subnetEnv, /"a b" \(-k\) is not the name of a variable/],
    [[], subnetEnv.replace('true', 'maybe'), /^Invalid value of FLANNEL_IPMASQ: maybe\n$/],
    [[], 'FLANNEL_SUBNET=$(reboot)\n', /^DOCKER_OPT_BIP holds a quote, a dollar sign or a line break/],
    [[], `FLANNEL_MTU=1"\n`, /^DOCKER_OPT_MTU holds a quote/],
    [[], 'x'.repeat(70_000), /is too large to be flannel's file/],
  ] as const) {
    const { status, stderr, file } = run(args, text);
    assert.is(status, 1, stderr);
    assert.match(stderr, said);
    assert.is(file, undefined);
  }
});

test('a file that cannot be written is told, and a FIFO is not waited for', () => {
  const weftctl = join(root, 'dist/bin/weftctl');
  const folder = scratch().makeFolder('fifo');
  execute(['mkfifo', join(folder, 'subnet.env')]);
  const fifo = execute([weftctl, 'docker-opts', '-c', '-f', join(folder, 'subnet.env'), '-d', join(folder, 'out')]);
  assert.is(fifo.status, 0);
  assert.is(readFileSync(join(folder, 'out'), 'utf8'), 'DOCKER_OPTS=""\n');
  const full = execute([weftctl, 'docker-opts', '-d', folder]);
  assert.is(full.status, 1);
  assert.match(full.stderr, /^Cannot write ".*": EISDIR\n$/);
  rmSync(join(folder, 'subnet.env'));
});

test('a route of the host to the subnet by a gateway is told, after the file is written', () => {
  const namespace = scratch().addNamespace('routed');
  const folder = scratch().makeFolder('routed');
  const [from, to] = [join(folder, 'subnet.env'), join(folder, 'docker.env')];
  writeFileSync(from, subnetEnv);
  const call = () =>
    execute([join(root, 'dist/bin/weftctl'), 'docker-opts', '-c', '-f', from, '-d', to], { namespace });
  for (const words of [
    ['link', 'add', 'eth9', 'type', 'bridge'],
    ['addr', 'add', '192.0.2.1/24', 'dev', 'eth9'],
    ['link', 'set', 'eth9', 'up'],
  ]) {
    runProgram(['ip', ...words], { namespace });
  }
  assert.is(call().status, 0);
  runProgram(['ip', 'route', 'add', '10.1.74.0/24', 'via', '192.0.2.9'], { namespace });
  const { status, stderr } = call();
  assert.is(status, 1);
  assert.is(stderr, 'Your routing table already contains the subnet: 10.1.74.0/24 via 192.0.2.9 dev eth9\n');
  assert.is(readFileSync(to, 'utf8'), all);
});

test("docker-weft.conf: systemd accepts it, and it names weftctl's own options", () => {
  const text = readFileSync(join(root, 'examples/docker-weft.conf'), 'utf8');
  const command = /^ExecStartPre=\/usr\/local\/bin\/(weftctl docker-opts .*)$/m.exec(text)?.[1]?.split(' ') ?? [];
  assert.equal(command, ['weftctl', 'docker-opts', '-i', '-d', '/run/docker_opts.env']);
  const options = /^ExecStart=\S+dockerd .*? (\$DOCKER_OPTS.*)$/m.exec(text)?.[1]?.split(' ').slice(1);
  const written = run(['-i'], subnetEnv).file?.match(/^DOCKER_OPT_\w+/gm);
  assert.equal(
    options,
    written?.map((name) => `$${name}`),
  );
  const systemd = lookForProgram('systemd-analyze');
  if (!systemd) return;
  const folder = scratch().makeFolder('units');
  writeFileSync(join(folder, 'docker.service'), '[Service]\nType=notify\nExecStart=/bin/true\n');
  mkdirSync(join(folder, 'docker.service.d'));
  const here = text
    .replace('/usr/local/bin/weftctl', join(root, 'dist/bin/weftctl'))
    .replace('/usr/bin/dockerd', '/bin/true');
  writeFileSync(join(folder, 'docker.service.d', 'weft.conf'), here);
  const { stdout, stderr } = execute([systemd, 'verify', '--recursive-errors=no', join(folder, 'docker.service')]);
  const told = `${stdout}${stderr}`.split('\n').filter((line) => /docker\.service|weft\.conf/.test(line));
  assert.equal(told, []);
});

test.run();
