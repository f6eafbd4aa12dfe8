/** The lab itself: it removes everything it made, however the process that made it ends. As root. */

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BareHost } from '../lab/bare-host.ts';
import { insideNamespace } from '../lab/namespaces.ts';
import { removeNamespaces, Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';

const test = suite('lab');

const isThere = (namespace: string): boolean => readdirSync('/run/netns').includes(namespace);
const lives = (pid: number): boolean => existsSync(`/proc/${pid}/exe`);

test('a scratch removes its namespaces, its programs and its folder', async () => {
  const scratch = new Scratch('gone');
  const host = new BareHost(scratch, 'one');
  const [pod] = host.addPodSpaces(1);
  const service = scratch.start(['sleep', '600'], { namespace: host.namespace, logFile: host.files.logFile });
  assert.ok(isThere(host.namespace) && isThere(pod!.namespace) && lives(service.pid));
  scratch.remove();
  await service.exited;
  assert.equal([isThere(host.namespace), isThere(pod!.namespace), existsSync(scratch.folder)], [false, false, false]);
});

for (const [how, ends] of [
  ['by an error', 'throw new Error("on purpose")'],
  ['by a signal', 'process.kill(process.pid, "SIGTERM"); setInterval(() => {}, 1000)'],
] as const) {
  test(`a scratch is removed when its process ends ${how}`, async () => {
    const script = `
      const { BareHost } = await import('${new URL('../lab/bare-host.ts', import.meta.url).pathname}');
      const { Scratch } = await import('${new URL('../lab/scratch.ts', import.meta.url).pathname}');
      const scratch = new Scratch('ends');
      const host = new BareHost(scratch, 'one');
      const { pid } = scratch.start(['sleep', '600'], { namespace: host.namespace, logFile: host.files.logFile });
      console.log(JSON.stringify({ namespace: host.namespace, folder: scratch.folder, pid }));
      ${ends};`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    await new Promise((resolve) => child.on('close', resolve));
    const { namespace, folder, pid } = JSON.parse(output) as { namespace: string; folder: string; pid: number };
    assert.equal([isThere(namespace), existsSync(folder)], [false, false]);
    await waitFor('the program to end', () => !lives(pid));
  });
}

test('namespaces that another process has left are removed by their prefix, with their processes', async () => {
  const scratch = new Scratch('left');
  const prefix = scratch.prefix;
  const namespace = scratch.addNamespace('one');
  const service = scratch.start(['sleep', '600'], { namespace, logFile: `${scratch.folder}/log` });
  // Until then it is a program that is about to enter the namespace.
  await waitFor('the program to be there', () => readlinkSync(`/proc/${service.pid}/exe`).endsWith('/sleep'));
  assert.is(removeNamespaces(`${prefix}x`), false);
  assert.ok(isThere(namespace));
  assert.is(removeNamespaces(prefix), true);
  assert.not(isThere(namespace));
  await service.exited;
  scratch.release();
  rmSync(scratch.folder, { recursive: true });
});

test('a body runs inside a namespace, and the thread is back after it', () => {
  const scratch = new Scratch('inside');
  try {
    const name = scratch.addNamespace('one');
    const current = (): string => readlinkSync('/proc/thread-self/ns/net');
    const before = current();
    assert.is.not(insideNamespace(name, current), before);
    assert.throws(
      () =>
        insideNamespace(name, () => {
          throw new Error('on purpose');
        }),
      /on purpose/,
    );
    assert.is(current(), before);
  } finally {
    scratch.remove();
  }
});

test.run();
