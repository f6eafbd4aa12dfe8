/** Whatever goes wrong around them, weftd and weftctl speak for themselves: no word, source or stack of Bun is shown. */

import { mkdirSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { execute, executeAsync, type Finished } from '../lab/commands.ts';
import { program, root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('own-words');
const scratch = fixture(
  test,
  () => new Scratch('own-words'),
  (made) => made.remove(),
);

const version = /^weftctl \d+\.\d+\.\d+\n$/;
const notRunning = /^weftctl: Cannot ask weftd on "\/nowhere\/weftd\.sock": it is not running/;

/** Bun's name, its sites, its panic, minified source, a stack. */
const foreign = /\bbun\b|bun\.(report|sh)|oven-sh|\$bunfs|evaluating|^\s+at \S+ \(|This indicates a bug/im;

/** Bash runs the script: `$C` is weftctl, `$D` weftd. */
function shell(script: string, environment: Record<string, string> = {}): Finished {
  const variables = { PATH: process.env['PATH'] ?? '', C: program('weftctl'), D: program('weftd'), ...environment };
  const ended = execute(['bash', '-c', script], { environment: variables, cwd: scratch().folder });
  assert.not.match(ended.stdout + ended.stderr, foreign, script);
  return ended;
}

const inMountNamespace = (mounts: string, command: string): string => `unshare --mount bash -c '${mounts}; ${command}'`;

test("Bun's own variables do nothing", () => {
  for (const environment of [
    { BUN_BE_BUN: '1' },
    { BUN_OPTIONS: '--preload /nonexistent.js' },
    { BUN_OPTIONS: '--print 1' },
    { BUN_INSPECT: 'ws+unix:///nonexistent.sock' },
    { BUN_INSPECT_PRELOAD: '/nonexistent.js' },
  ] as Record<string, string>[]) {
    const { status, stdout, stderr } = shell('$C --version', environment);
    assert.equal([status, stderr], [0, ''], JSON.stringify(environment));
    assert.match(stdout, version);
  }
});

test('closed and broken streams', () => {
  for (const [script, status] of [
    ['$C --version >&-', 0],
    ['$C nosuch 2>&-', 2],
    ['$C --version <&-', 0],
    ['$C --version <&- >&- 2>&-', 0],
    ['set -o pipefail; $C --help | true', 0],
    ['$C nosuch 2> >(true)', 2],
    ['$C config set - <&-', 1],
  ] as const) {
    assert.is(shell(script).status, status, script);
  }
});

test('few descriptors', () => {
  for (let limit = 4; limit <= 16; limit += 3) {
    const { status, stderr } = shell(`ulimit -n ${limit}; $C --run-dir /nowhere nodes`);
    assert.is(status, 1, stderr);
    if (limit >= 13) assert.match(stderr, notRunning);
    else assert.match(stderr, /file descriptors|may open no more files|EMFILE|it is not running/);
  }
  const daemon =
    '$D --run-dir $PWD/r --state-dir $PWD/s --subnet-file $PWD/e --etcd-endpoints http://127.0.0.1:1 --healthz-port 0';
  for (const limit of [5, 7, 8]) {
    const { status, stderr } = shell(`ulimit -n ${limit}; timeout 20 unshare --net ${daemon}`);
    assert.ok(status !== 0);
    assert.match(stderr, /EMFILE/);
  }
});

test('a folder that is gone, no temporary folder, nothing writable, no home', () => {
  const gone = shell('mkdir gone; cd gone; rmdir ../gone; $C --version');
  assert.is(gone.status, 1);
  assert.match(
    gone.stderr,
    /^error: The current folder was deleted\. Change to another folder \(cd \/\), and try again\. *\n$/,
  );
  const missing = { TMPDIR: '/nonexistent', HOME: '/nonexistent', XDG_CACHE_HOME: '/nonexistent' };
  assert.match(shell('$C --run-dir /nowhere nodes', missing).stderr, notRunning);
  const readOnly = inMountNamespace('mount -t tmpfs -o ro none /tmp && cd /', '$C --run-dir /nowhere nodes');
  assert.match(shell(readOnly).stderr, notRunning);
  const noDevices = inMountNamespace('mount -t tmpfs none /dev', '$C --run-dir /nowhere nodes');
  assert.match(shell(noDevices).stderr, notRunning);
});

test('without /proc, and with too little memory, the last words are ours', () => {
  const withoutProc = shell(`${inMountNamespace('mount -t tmpfs none /proc', '$C --version')} 2>&1`);
  assert.match(withoutProc.stdout, /Weft has crashed\. Is \/proc mounted\? Is there enough memory\?/);
  const small = shell('ulimit -c 0; ulimit -v 300000; $C --version 2>&1');
  assert.match(small.stdout, /Weft has crashed|^weftctl \d/);
});

test('a full disk, a read-only one', () => {
  const paths = '--run-dir $PWD/disk/r --state-dir $PWD/disk/s --subnet-file $PWD/disk/e';
  const daemon = `timeout 20 $D ${paths} --etcd-endpoints http://127.0.0.1:1 --healthz-port 0`;
  for (const [options, code] of [
    ['size=4k,nr_inodes=2', 'ENOSPC'],
    ['ro', 'EROFS'],
  ]) {
    const fill = '{ head -c 4096 /dev/zero >disk/x; } 2>/dev/null';
    const mounts = `mkdir -p disk; mount -t tmpfs -o ${options} none disk; ${fill}`;
    const { status, stderr } = shell(`unshare --net ${inMountNamespace(mounts, daemon)}`);
    assert.is(status, 1, stderr);
    assert.ok(stderr.includes(`: ${code}`), stderr);
  }
  assert.equal(shell('$C --version >/dev/full').stderr, 'weftctl: Cannot write the output: ENOSPC\n');
});

test('odd words, odd languages', () => {
  assert.match(shell("$C $'\\xff\\xfe'").stderr, /^weftctl: Unknown verb "/);
  assert.match(shell('env LC_ALL=xx_YY.UTF-8 LANG=zz $C --run-dir /nowhere nodes').stderr, notRunning);
  assert.match(shell("X=$'\\xff' $C --version").stdout, version);
});

test('signals end it without a word', () => {
  for (const signal of ['TERM', 'INT', 'HUP', 'USR1', 'USR2']) {
    const script = `set -m; $C --run-dir /nowhere status --wait --timeout 60 2>err & while ! [ -s err ]; do sleep 0.02; done; kill -${signal} %1; wait %1; cat err; rm err`;
    const { stdout } = shell(script);
    assert.is(stdout.trim().split('\n').length, 1, `${signal}: ${stdout}`);
  }
});

const answers: Record<string, (socket: Socket) => void> = {
  nothing: (socket) => socket.destroy(),
  words: (socket) => socket.end('hello\r\n\r\n'),
  part: (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a"'),
  'endless head': (socket) => socket.end(`HTTP/1.1 200 OK\r\nX: ${'a'.repeat(100_000)}\r\n\r\n`),
  'bad length': (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n{}'),
  'bad chunk': (socket) => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}'),
  'another document': (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}'),
  'a number': (socket) => socket.end('HTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\n7'),
};

test('answers that are none, of weftd and of runtimes', async () => {
  for (const [name, answer] of Object.entries(answers)) {
    const folder = join(scratch().folder, name.replace(' ', '-'));
    mkdirSync(folder);
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => answer(socket));
    });
    await new Promise<void>((resolve) => server.listen(join(folder, 'weftd.sock'), resolve));
    const environment = {
      PATH: process.env['PATH'] ?? '',
      DOCKER_HOST: `unix://${folder}/weftd.sock`,
      CONTAINER_RUNTIME_ENDPOINT: `unix://${folder}/weftd.sock`,
    };
    for (const words of [['nodes'], ['status'], ['logs'], ['config', 'get']]) {
      const ended = await executeAsync([program('weftctl'), '--run-dir', folder, ...words], { environment });
      assert.not.match(ended.stdout + ended.stderr, foreign, `${name}: ${words}`);
      assert.not.match(ended.stderr, /should not have happened/, `${name}: ${words}`);
      assert.is(ended.status, 1, `${name}: ${words}: ${ended.stderr}`);
    }
    for (const kind of ['docker', 'cri']) {
      const folders = ['--conf-dir', join(root, 'examples'), '--cache-dir', folder];
      const argv = [program('weftctl'), 'attach', `${kind}:x`, 'weft', ...folders];
      const { status, stdout, stderr } = await executeAsync(argv, { environment });
      assert.not.match(stdout + stderr, foreign, `${name}: ${kind}`);
      assert.not.match(stderr, /should not have happened/, `${name}: ${kind}`);
      assert.is(status, 1, stderr);
    }
    server.close();
  }
});

test.run();
