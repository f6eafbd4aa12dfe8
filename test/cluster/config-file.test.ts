/** The network config in a file: replaced as kubelet replaces a ConfigMap, missing, and unreadable. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ConfigFile } from '../../cluster/kubernetes/config-file.ts';
import { systemClock } from '../lab/clock.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('config file');
const scratch = fixture(
  test,
  () => new Scratch('config-file'),
  (made) => made.remove(),
);

test('a ConfigMap that kubelet replaces is seen, and has another version', async () => {
  const folder = scratch().makeFolder('map');
  /** kubelet's way: the file is a link into a link, which is replaced. */
  const put = (name: string, text: string): void => {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'net-conf.json'), text);
    symlinkSync(name, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
  };
  put('..1', 'one');
  symlinkSync('..data/net-conf.json', join(folder, 'net-conf.json'));
  const config = new ConfigFile({ path: join(folder, 'net-conf.json'), clock: systemClock });
  assert.equal(await config.read(), { text: 'one', version: '1' });
  let wakes = 0;
  const watch = config.watch(() => wakes++);
  assert.is(wakes, 1, 'at the start');
  await waitFor('the first look', () => wakes >= 2);
  put('..2', 'two');
  await waitFor('the second config', () => wakes >= 3);
  assert.equal(await config.read(), { text: 'two', version: '2' });
  assert.equal(await config.read(), { text: 'two', version: '2' });
  watch.close();
});

test('a file that comes later, with its folder, is seen', async () => {
  const folder = join(scratch().folder, 'later');
  const path = join(folder, 'net-conf.json');
  const config = new ConfigFile({ path, clock: systemClock, everyMs: 20 });
  assert.is(await config.read(), undefined);
  let wakes = 0;
  const watch = config.watch(() => wakes++);
  mkdirSync(folder);
  writeFileSync(path, 'x');
  await waitFor('it', () => wakes >= 2);
  assert.is((await config.read())?.text, 'x');
  rmSync(path);
  const before = wakes;
  await waitFor('its end', () => wakes > before);
  assert.is(await config.read(), undefined);
  watch.close();
});

test('what is no file of a sensible size is refused, and nothing waits for it', async () => {
  const fifo = join(scratch().folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const large = join(scratch().folder, 'large');
  writeFileSync(large, Buffer.alloc((1 << 20) + 1));
  for (const [path, fault] of [
    [fifo, /it is no file/],
    [scratch().folder, /it is no file/],
    [large, /it has 1048577 bytes; at most 1048576 are read/],
  ] as const) {
    const config = new ConfigFile({ path, clock: systemClock });
    let message = '';
    await config.read().catch((error: Error) => {
      message = error.message;
    });
    assert.match(message, fault);
    assert.match(message, /^Cannot read the network config ".*" \(--net-config-path\): /);
  }
});

test.run();
