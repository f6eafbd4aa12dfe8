import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  emptyState,
  FolderBusyError,
  formatState,
  lockFolders,
  NodeFiles,
  type NodeState,
  parseState,
} from '../../../../daemon/host/files.ts';
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

const state: NodeState = {
  devices: new Map([['flannel.1', mac(1)]]),
  networks: [prefix('10.1.0.0/16')],
  gateways: [address('192.0.2.2'), address('2001:db8::2')],
};

test('both files are written, and only when they change', () => {
  const made = files('a');
  assert.is(made.writeNetwork(network), true);
  const paths = [join(made.paths.runDir, 'node.json'), made.paths.subnetFile];
  const before = paths.map((path) => statSync(path).ino);
  assert.is(made.writeNetwork(network), false);
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

test('node.json before subnet.env; a broken one is reported and passed over', () => {
  const made = files('b');
  made.writeNetwork(network);
  writeFileSync(join(made.paths.runDir, 'node.json'), '{');
  const problems: string[] = [];
  const read = made.readNetwork((error) => problems.push(error.message));
  assert.equal(read!.subnets, network.subnets);
  assert.is(read!.node, '');
  assert.match(problems.join(), /^Cannot read ".*\/node\.json": it is not JSON$/);
});

test('state: text and back; what cannot be read is left out', () => {
  assert.equal(parseState(formatState(state)), state);
  for (const text of ['', 'null', '[]', '7', '{"devices":7,"networks":{}}']) assert.equal(parseState(text), emptyState);
  assert.equal(
    parseState('{"devices":{"flannel.1":"x","flannel.2":"02:00:00:00:00:02"},"networks":["10.1.0.0/16",7]}'),
    {
      devices: new Map([['flannel.2', mac(2)]]),
      networks: [prefix('10.1.0.0/16')],
      gateways: [],
    },
  );
});

test('removal takes all of them, and is fine with none', () => {
  const made = files('c');
  made.writeNetwork(network);
  made.writeState(state);
  made.removeAll();
  made.removeAll();
  assert.not(existsSync(made.paths.subnetFile));
  assert.equal(made.readState(), emptyState);
});

const foldersOf = (name: string) => ({ runDir: join(folder(), name, 'run'), stateDir: join(folder(), name, 'state') });

function busy(work: () => unknown): FolderBusyError {
  try {
    work();
  } catch (error) {
    assert.instance(error, FolderBusyError);
    return error as FolderBusyError;
  }
  throw new Error('it should have been refused');
}

test('the folders have one holder, who is named', () => {
  const folders = foldersOf('d');
  const lock = lockFolders(sys, folders);
  assert.is(readFileSync(join(folders.runDir, 'weftd.pid'), 'utf8'), `${process.pid}\n`);
  // What a weftd in a container wrote there is not a number of this host's.
  writeFileSync(join(folders.runDir, 'weftd.pid'), '1\n');
  assert.is(busy(() => lockFolders(sys, folders)).pid, process.pid);
  lock.release();
  lockFolders(sys, folders).release();
});

test('two weftd with a run folder each do not share a state folder', () => {
  const folders = foldersOf('s');
  const lock = lockFolders(sys, folders);
  const other = { ...folders, runDir: join(folder(), 's', 'other') };
  assert.match(
    busy(() => lockFolders(sys, other)).message,
    /s\/state"; stop it first, or give another .* --state-dir$/,
  );
  lock.release();
  lockFolders(sys, other).release();
});

test('a leftover of another mode is no obstacle', () => {
  const folders = foldersOf('e');
  const path = join(folders.runDir, 'weftd.pid');
  lockFolders(sys, folders).release();
  chmodSync(path, 0o600);
  writeFileSync(path, '123456789\n');
  lockFolders(sys, folders).release();
  assert.is(readFileSync(path, 'utf8'), `${process.pid}\n`);
});

test.run();
