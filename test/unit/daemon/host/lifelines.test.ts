import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Lifelines } from '../../../../daemon/host/lifelines.ts';
import { Bell } from '../../../../daemon/pace/bell.ts';
import { lookUpNamesTask } from '../../../../daemon/tasks/look-up-names.ts';
import { errno } from '../../../../linux/errors.ts';
import { formatAddress } from '../../../../net/address.ts';

const test = suite('daemon/host/lifelines');
const signal = new AbortController().signal;

/** All answers that are there have arrived. */
const answered = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

/** Names and resolv.conf of variables. */
class Site {
  nowMs = 0;
  endpoints: string[];
  names: Record<string, () => Promise<string[]>> = {};
  resolvConf: string | undefined;
  mode = 0o100644;
  reads = 0;
  readonly asked: string[] = [];
  readonly timers: (() => void)[] = [];
  readonly lifelines: Lifelines;

  constructor(...endpoints: string[]) {
    this.endpoints = endpoints;
    let at = 0;
    this.lifelines = new Lifelines({
      sys: {
        stat: () => {
          if (this.resolvConf === undefined) return -errno.ENOENT;
          return { dev: 1, ino: 1, mode: this.mode, size: this.resolvConf.length, mtimeMs: 0 };
        },
        fstat: () => -errno.EBADF,
        open: () => {
          at = 0;
          return ++this.reads;
        },
        read: (_fd, buffer, offset) => {
          const bytes = new TextEncoder().encode(this.resolvConf).subarray(at);
          new Uint8Array(buffer, offset).set(bytes);
          at += bytes.length;
          return bytes.length;
        },
        close: () => 0,
        decodeUtf8: (buffer, offset, length) => new TextDecoder().decode(new Uint8Array(buffer, offset, length)),
      },
      endpoints: () => this.endpoints,
      kind: 'etcd',
      lookUp: (name) => {
        this.asked.push(name);
        return this.names[name]!();
      },
      setTimer: (callback) => void this.timers.push(callback),
      now: () => this.nowMs,
    });
  }

  get texts(): string[] {
    return this.lifelines.current.map(({ address, what }) => `${formatAddress(address)} ${what}`);
  }
}

test('names of endpoints are looked up; an address stays for a while after it was seen last', async () => {
  const site = new Site('http://10.0.0.1:2379', 'https://etcd.example:2379', 'https://etcd.example:2380');
  site.names['etcd.example'] = async () => ['10.0.0.2', 'fd00::2'];
  assert.equal(site.texts, ['10.0.0.1 etcd']);
  assert.is(await site.lifelines.refresh(), true);
  assert.equal(site.asked, ['etcd.example']);
  assert.equal(site.texts, ['10.0.0.1 etcd', '10.0.0.2 etcd', 'fd00::2 etcd']);
  assert.is(await site.lifelines.refresh(), false);
  site.nowMs = 300_000;
  site.names['etcd.example'] = async () => ['10.0.0.3', 'fd00::2'];
  assert.is(await site.lifelines.refresh(), true);
  assert.equal(site.texts, ['10.0.0.1 etcd', '10.0.0.2 etcd', 'fd00::2 etcd', '10.0.0.3 etcd']);
  site.nowMs = 700_000;
  assert.is(await site.lifelines.refresh(), true);
  assert.equal(site.texts, ['10.0.0.1 etcd', 'fd00::2 etcd', '10.0.0.3 etcd']);
});

test('a name server that fails, does not answer, or answers without end takes nothing and makes nobody wait', async () => {
  const site = new Site('https://a:2379', 'https://b:2379', 'https://c:2379');
  let answer: (texts: string[]) => void = () => {};
  site.names = {
    a: async () => {
      throw new Error('ENOTFOUND');
    },
    b: () => new Promise((resolve) => (answer = resolve)),
    c: async () => ['x', ...Array.from({ length: 5000 }, (_, i) => `10.1.${i >> 8}.${i & 255}`)],
  };
  const refresh = site.lifelines.refresh();
  await answered();
  for (const timer of site.timers) timer();
  assert.is(await refresh, true);
  assert.is(site.texts.length, 15);
  // The second one runs still: it is not asked again.
  const again = site.lifelines.refresh();
  await answered();
  for (const timer of site.timers) timer();
  assert.is(await again, false);
  assert.equal(site.asked, ['a', 'b', 'c', 'a', 'c']);
  answer(['10.9.9.9']);
  site.names['b'] = async () => ['10.9.9.9'];
  await answered();
  assert.is(await site.lifelines.refresh(), true);
  assert.ok(site.texts.includes('10.9.9.9 etcd'));
});

test('a store that learns its endpoints later', async () => {
  const site = new Site();
  assert.equal([site.texts, site.lifelines.hasNames], [[], false]);
  site.endpoints = ['https://10.0.0.1:6443', 'https://api.example:6443'];
  site.names['api.example'] = async () => ['10.0.0.2'];
  assert.equal([site.texts, site.lifelines.hasNames], [['10.0.0.1 etcd'], true]);
  await site.lifelines.refresh();
  assert.equal(site.texts, ['10.0.0.1 etcd', '10.0.0.2 etcd']);
});

test('resolv.conf is read again when it has changed', () => {
  const site = new Site();
  assert.equal(site.texts, []);
  site.resolvConf = 'nameserver 10.0.0.53\n';
  assert.equal([site.texts, site.texts, site.reads], [['10.0.0.53 a name server'], ['10.0.0.53 a name server'], 1]);
  site.resolvConf = 'nameserver 10.0.0.54\nnameserver 10.0.0.55\n';
  assert.equal(site.texts, ['10.0.0.54 a name server', '10.0.0.55 a name server']);
  site.mode = 0o010644;
  site.resolvConf = 'a FIFO';
  assert.equal([site.texts, site.reads], [[], 2]);
  site.resolvConf = undefined;
  assert.equal(site.texts, []);
});

test('changed names have the data path compared; without names nothing is done', async () => {
  let changes = true;
  let disturbed = 0;
  const bell = new Bell();
  let rings = 0;
  bell.listen(() => void rings++);
  const task = (hasNames: boolean) =>
    lookUpNamesTask({ hasNames, refresh: async () => changes }, { disturb: () => void disturbed++ }, bell);
  await task(false).run(signal);
  assert.equal([disturbed, rings], [0, 0]);
  assert.is(await task(true).run(signal), undefined);
  changes = false;
  await task(true).run(signal);
  assert.equal([disturbed, rings], [1, 1]);
});

test.run();
