/** ADD does not ask the network, start a process or sleep, and makes few system calls. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { pluginHost } from '../lab/plugin.ts';
import { fixture } from '../support/fixture.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';

const { before, after, test, run } = conformance('thrift');
const sites = fixture(
  { before, after },
  () => new Sites('thrift'),
  (made) => made.remove(),
);

/** A traced system call: `PID name(arguments) = result`. */
interface SystemCall {
  readonly name: string;
  readonly line: string;
}

function parseTrace(text: string): SystemCall[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(?:\d+\s+)?([a-z_0-9]+)\(/.exec(line);
    // The kernel restarts a call itself, as long as somebody else holds its lock of the network.
    return match && !line.endsWith('(To be restarted)') ? [{ name: match[1]!, line }] : [];
  });
}

for (const [what, pods] of [
  ['the first ADD of a host', 1],
  ['a later ADD', 2],
] as const) {
  test(`${what} asks no network, starts no process and does not sleep`, () => {
    // Bun has threads and timers of its own; what matters is the program that is shipped.
    if (pluginHost === 'bun') return;
    const site = sites().make();
    site.writeNodeFile();
    const [pod, ...others] = site.addPods(pods);
    for (const other of others) site.add(other, site.overlay());
    const file = join(site.folder, 'trace');
    site.add(pod!, site.overlay(), { through: ['strace', '-f', '-qq', '-v', '-s', '0', '-o', file] });
    const calls = parseTrace(readFileSync(file, 'utf8'));
    const named = (pattern: RegExp) => calls.filter(({ name }) => pattern.test(name)).map(({ line }) => line);

    assert.equal(named(/^connect$/), []);
    const sockets = named(/^socket$/);
    assert.equal(
      sockets.filter((line) => !/AF_NETLINK|AF_PACKET/.test(line)),
      [],
    );
    assert.equal(named(/^(fork|vfork|clone|clone3)$/), []);
    assert.is(named(/^execve(at)?$/).length, 1, 'only its own start');
    assert.equal(named(/^(nanosleep|clock_nanosleep|pause|sched_yield)$/), []);
    assert.equal(
      named(/^(poll|ppoll|select|pselect6|epoll_wait|epoll_pwait)$/).filter((line) =>
        /, [1-9]\d*\) = 0 \(Timeout/.test(line),
      ),
      [],
      'no waiting that ends by time',
    );
    const sends = named(/^(sendto|sendmsg|sendmmsg)$/);
    console.log(`\n  ${what}: ${calls.length} system calls, ${sockets.length} sockets, ${sends.length} netlink sends`);
    assert.ok(sends.length > 0 && sends.length <= 12, `${sends.length} sends`);
    assert.ok(calls.length < 400, `${calls.length} system calls`);
  });
}

run();
