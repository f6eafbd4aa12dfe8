import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { emptyState, formatState, NodeFiles, type NodeState, parseState } from '../../../../daemon/host/files.ts';
import { RememberedState } from '../../../../daemon/host/remembered-state.ts';
import { SyscallError } from '../../../../linux/errors.ts';
import { sys } from '../../../../linux/sys-bun.ts';
import type { NodeNetwork } from '../../../../net/node-file.ts';
import { fixture } from '../../../support/fixture.ts';
import { address, mac, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/host/files');

const folder = fixture(
  test,
  () => mkdtempSync(join(tmpdir(), 'weft-files-')),
  (path) => rmSync(path, { recursive: true }),
);

const files = (name: string): NodeFiles =>
  new NodeFiles(sys, {
    runDir: join(folder(), name, 'run'),
    stateDir: join(folder(), name, 'state'),
    subnetFile: join(folder(), name, 'flannel', 'subnet.env'),
  });

const network: NodeNetwork = {
  node: 'h1',
  networks: [prefix('10.1.0.0/16')],
  subnets: [prefix('10.1.1.0/24')],
  mtuBytes: 1450,
  ipMasq: true,
};

const write = (made: NodeFiles): boolean => made.writeNetwork(network, (error) => assert.unreachable(error.message));

const state: NodeState = {
  devices: new Map([['flannel.1', mac(1)]]),
  networks: [prefix('10.1.0.0/16')],
  subnets: [{ 4: prefix('10.1.2.0/24'), 6: prefix('fd00:0:0:2::/64') }, { 6: prefix('fd01::/64') }],
  gateways: [address('192.0.2.2'), address('2001:db8::2')],
  external: { name: 'eth0', addresses: [address('192.0.2.1')], choice: '[]' },
};

test('both files are written, and only when they change', () => {
  const made = files('a');
  assert.is(write(made), true);
  const paths = [join(made.paths.runDir, 'node.json'), made.paths.subnetFile];
  const before = paths.map((path) => statSync(path).ino);
  assert.is(write(made), false);
  assert.equal(
    paths.map((path) => statSync(path).ino),
    before,
  );
  for (const path of paths) assert.is(statSync(path).mode & 0o777, 0o644);
  assert.equal(
    made.readNetwork(() => assert.unreachable()),
    network,
  );
});

test('the network is withdrawn from the plugins, and written again', () => {
  const made = files('withdrawn');
  const problems: string[] = [];
  const withdraw = (): boolean => made.withdrawNetwork((error) => problems.push(error.message));
  assert.is(withdraw(), false);
  write(made);
  assert.is(withdraw(), true);
  assert.is(
    made.readNetwork(() => assert.unreachable()),
    undefined,
  );
  for (const path of [join(made.paths.runDir, 'node.json'), made.paths.subnetFile]) assert.not(existsSync(path));
  mkdirSync(made.paths.subnetFile, { recursive: true });
  assert.equal(problems, []);
  writeFileSync(join(made.paths.runDir, 'node.json'), '');
  assert.is(withdraw(), true, 'one of the two');
  assert.match(problems.join(), /^Cannot remove ".*subnet\.env": E/);
  rmSync(made.paths.subnetFile, { recursive: true });
  assert.is(write(made), true);
});

test('node.json before subnet.env; a broken one is reported and passed over', () => {
  const made = files('b');
  write(made);
  writeFileSync(join(made.paths.runDir, 'node.json'), '{');
  const problems: string[] = [];
  const read = made.readNetwork((error) => problems.push(error.message));
  assert.equal(read!.subnets, network.subnets);
  assert.is(read!.node, '');
  assert.match(problems.join(), /^Cannot read ".*\/node\.json": it is not JSON$/);
});

test('state: text and back; what cannot be read is left out', () => {
  assert.equal(parseState(formatState(state)), state);
  assert.is(formatState(parseState(formatState(state))), formatState(state), 'a restart does not rewrite it');
  for (const text of ['', 'null', '[]', '7', '{"devices":7,"networks":{},"subnets":["x"," "]}'])
    assert.equal(parseState(text), emptyState);
  assert.equal(
    parseState('{"devices":{"flannel.1":"x","flannel.2":"02:00:00:00:00:02"},"networks":["10.1.0.0/16",7]}'),
    {
      devices: new Map([['flannel.2', mac(2)]]),
      networks: [prefix('10.1.0.0/16')],
      subnets: [],
      gateways: [],
    },
  );
});

test('removal takes all of them, and is fine with none', () => {
  const made = files('c');
  write(made);
  made.writeState(state);
  made.removeAll();
  made.removeAll();
  assert.not(existsSync(made.paths.subnetFile));
  assert.equal(made.readState(), emptyState);
});

test('removal for flanneld leaves subnet.env', () => {
  const made = files('c2');
  write(made);
  made.writeState(state);
  made.removeOwn();
  assert.ok(existsSync(made.paths.subnetFile));
  assert.equal(made.readState(), emptyState);
});

const isSyscallError = (error: unknown): boolean => error instanceof SyscallError;

/** Something in a file's place that cannot be read as one. */
const obstacles = {
  'a folder': (path: string): void => void mkdirSync(path, { recursive: true }),
  'a FIFO': (path: string): void => void execFileSync('mkfifo', [path]),
  'a file of 17 MB': (path: string): void => truncateSync(path, 17 << 20),
} as const;

const messages = {
  'a folder': /^Cannot use ".*", which is a folder: remove it: EISDIR$/,
  'a FIFO': /^Cannot use ".*", which is no regular file: remove it: EINVAL$/,
  'a file of 17 MB': /^Cannot read ".*" of more than 16777216 bytes: EFBIG$/,
} as const;

for (const what of Object.keys(obstacles) as (keyof typeof obstacles)[]) {
  const make = obstacles[what];
  test(`${what} in a file's place: told, replaced if possible, and the other files are written`, () => {
    const made = files(`obstacle ${what}`);
    write(made);
    made.writeState(state);
    made.writeMemory('memory');
    const { runDir, stateDir, subnetFile } = made.paths;
    const paths = [join(runDir, 'node.json'), subnetFile, join(stateDir, 'state.json'), join(stateDir, 'cluster.json')];
    for (const path of paths) {
      if (what !== 'a file of 17 MB') rmSync(path);
      make(path);
    }
    const told: string[] = [];
    const tell = (error: Error): void => void told.push(error.message);
    assert.is(made.readNetwork(tell), undefined);
    assert.is(told.length, 2);
    for (const message of told) assert.match(message, messages[what]);
    assert.throws(() => made.readState(), isSyscallError);
    assert.throws(() => made.readMemory(), isSyscallError);
    const remembered = new RememberedState(made, (error) => error && tell(error));
    assert.equal(remembered.current, emptyState, 'weftd starts without it');
    assert.is(told.length, 3);
    if (what === 'a folder') {
      assert.throws(() => made.writeNetwork(network, tell), /node\.json", which is a folder: remove it: EISDIR$/);
      assert.is(told.length, 4);
      assert.match(told[3]!, /subnet\.env", which is a folder/);
      rmSync(paths[0]!, { recursive: true });
      made.writeNetwork(network, tell);
      assert.ok(statSync(paths[0]!).isFile(), 'node.json is written although subnet.env cannot be');
      return;
    }
    write(made);
    made.writeState(state);
    made.writeMemory('memory');
    for (const path of paths) assert.ok(statSync(path).isFile() && statSync(path).size < 1000, path);
    assert.equal(made.readState(), state);
  });
}

test.run();
