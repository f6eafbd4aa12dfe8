/**
 * Where the reference plugins fail their users, and Weft does not: each of the eleven, (a) to (k), has a test, which
 * shows what Weft does and, beside it, what the installed reference does.
 * @alone
 */

import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { execute, findProgram, run as runProgram } from '../lab/commands.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import { bothFolders, type CallOptions, type Outcome, pluginHost } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { Machine } from './machine.ts';
import { environment, ipamOnly, type Keys, pair, reference, theirReservations } from './reference.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const { before, after, test, run } = conformance('differences');
const sites = fixture(
  { before, after },
  () => new Sites('differs'),
  (made) => made.remove(),
);

const differences = {
  a: "the check for the host's own namespace comes before anything is reserved",
  b: 'CHECK of an attachment without addresses succeeds',
  c: 'a requested address does not get past the check for duplicates',
  d: 'DEL succeeds with ranges that have become invalid',
  e: 'DEL without a namespace removes the masquerading',
  f: 'addresses that were held before a reboot are free after it',
  g: 'no failed write leaves an empty reservation, and none blocks an address',
  h: 'ADD and DEL do not read the reservations of others',
  i: 'DEL frees an address when its link is gone, not before',
  j: 'ADD does not wait for the lock of iptables',
  k: 'ADD does not wait for the detection of duplicate IPv6 addresses',
} as const;
type Letter = keyof typeof differences;

const covered = new Set<Letter>();
const difference = (letter: Letter, body: () => void | Promise<void>, aspect?: string): void => {
  // Under Bun, another program makes the system calls; the same code decides.
  if (pluginHost !== 'native') return;
  covered.add(letter);
  test(`difference (${letter}): ${differences[letter]}${aspect === undefined ? '' : `: ${aspect}`}`, body);
};

const _v4 = { subnet: '10.1.2.0/24' };

/** strace's lines of these system calls. */
function trace(site: Site, calls: string, run: (options: CallOptions) => void): string[] {
  const file = join(site.folder, 'trace');
  run({ through: ['strace', '-f', '-qq', '-v', '-s', '256', '-o', file, '-e', `trace=${calls}`] });
  return readFileSync(file, 'utf8').split('\n');
}

difference('a', () => {
  const site = sites().make();
  const pod = { ...site.addPod(), path: `/run/netns/${site.namespace}` };
  const { ours, theirs } = pair(site);
  fails(ipamOnly(site, pod, 'ADD', ours), 8);
  fails(site.weft('ADD', pod, ours), 8);
  assert.not(existsSync(join(site.dataDir, 'net')));
  assert.equal(
    readLinks(site.namespace).map(({ name }) => name),
    [],
  );

  // Whether it fails in the end depends on its version.
  reference(site, 'host-local', 'ADD', pod, theirs);
  assert.equal(theirReservations(site), ['10.1.2.2'], 'the reference keeps an address');
});

difference('b', () => {
  const site = sites().make();
  const [pod, other] = site.addPods(2) as [PodSpace, PodSpace];
  const { ours, theirs } = pair(site);
  const l2 = (keys: Keys): Keys => ({ ...keys, ipam: {} });
  const prevResult = succeeds(site.weft('ADD', pod, l2(ours)));
  succeeds(site.weft('CHECK', pod, { ...l2(ours), prevResult }));
  site.podIp(pod, 'link', 'del', 'eth0');
  fails(site.weft('CHECK', pod, { ...l2(ours), prevResult }), own, /eth0/);

  const result = succeeds(reference(site, 'bridge', 'ADD', other, l2(theirs)));
  assert.is(reference(site, 'bridge', 'CHECK', other, { ...l2(theirs), prevResult: result }).status, 1);
});

difference('c', () => {
  const site = sites().make();
  const pod = site.addPod();
  const { ours, theirs } = pair(site);
  succeeds(ipamOnly(site, pod, 'ADD', ours, { args: 'IP=10.1.2.7' }));
  for (const args of ['IP=10.1.2.8', undefined]) {
    fails(ipamOnly(site, pod, 'ADD', ours, args === undefined ? {} : { args }), own, /duplicate/);
  }
  assert.equal(site.reservations(), ['10.1.2.7']);

  for (const args of ['IP=10.1.2.7', 'IP=10.1.2.8']) {
    succeeds(reference(site, 'host-local', 'ADD', pod, theirs, { args }));
  }
  assert.equal(theirReservations(site), ['10.1.2.7', '10.1.2.8']);
});

difference('d', () => {
  const site = sites().make();
  const pod = site.addPod();
  const { ours, theirs } = pair(site);
  const invalid = (keys: Keys): Keys => ({ ...keys, ipam: { ...(keys['ipam'] as Keys), subnet: '10.1.2.0/32' } });
  site.add(pod, ours);
  site.delete(pod, invalid(ours));
  assert.equal(site.reservations(), []);

  succeeds(reference(site, 'host-local', 'ADD', pod, theirs));
  assert.is(reference(site, 'host-local', 'DEL', pod, invalid(theirs)).status, 1);
  assert.equal(theirReservations(site), ['10.1.2.2']);
});

difference('e', () => {
  const site = sites().make();
  const [pod, other] = site.addPods(2) as [PodSpace, PodSpace];
  const rules = () =>
    `${execute(['nft', 'list', 'ruleset'], { namespace: site.namespace }).stdout}${runProgram(
      ['iptables', '-t', 'nat', '-S'],
      { namespace: site.namespace },
    )}`;
  for (const ipMasqBackend of ['nftables', 'iptables']) {
    const { ours } = pair(site, { isGateway: true, ipMasq: true, ipMasqBackend });
    site.add(pod, ours, { environment });
    assert.match(rules(), /10\.1\.2\./);
    site.delete(pod, ours, { netns: '', environment });
    assert.not.match(rules(), /10\.1\.2\./, ipMasqBackend);
  }

  const { theirs } = pair(site, { isGateway: true, ipMasq: true }, { subnet: '10.1.3.0/24' });
  succeeds(reference(site, 'bridge', 'ADD', other, theirs));
  succeeds(reference(site, 'bridge', 'DEL', other, theirs, { netns: '' }));
  assert.match(rules(), /10\.1\.3\./);
});

difference(
  'f',
  async () => {
    const site = sites().make();
    const machine = await Machine.start(site);
    // Fourteen addresses but the gateway's.
    const { ours, theirs } = pair(site, { cniVersion: '1.1.0', isGateway: true }, { subnet: '10.1.2.0/28' });
    const elsewhere = { ...ours, name: 'elsewhere', bridge: 'br2', ipam: site.ipam({ subnet: '10.1.9.0/29' }) };
    const lost = site.addPods(13);
    for (const pod of lost) site.add(pod, ours, machine.through);
    for (const pod of lost.slice(0, 3)) site.add(pod, elsewhere, { ...machine.through, ifname: 'eth1' });
    const status = (stdin: Keys): Outcome => site.call('weft', { command: 'STATUS', stdin, ...machine.through });
    const spare = site.addPod();
    fails(site.weft('ADD', spare, ours, machine.through), own, /no IP addresses available/);
    fails(status(ours), 50);
    for (const pod of lost) succeeds(reference(site, 'host-local', 'ADD', pod, { ...theirs, cniVersion: '1.0.0' }));

    machine.reboot();
    const pods = site.addPods(13);
    const outcomes = await Promise.all(pods.map((pod) => site.weftAsync('ADD', pod, ours, machine.through)));
    const addresses = outcomes.map((outcome) => succeeds(outcome).ips![0]!.address.split('/')[0]!);
    assert.is(new Set(addresses).size, 13);
    assert.equal(site.reservations(), [...addresses].sort());
    for (const [i, pod] of pods.entries()) {
      assert.is(site.reservation(addresses[i]!), `${pod.id}\r\neth0`);
      assert.ok(site.podLink(pod).addresses.includes(`${addresses[i]}/28`));
    }
    fails(status(ours), 50);

    // Another network's are freed when it is asked for, be it by STATUS.
    assert.is(site.reservations('elsewhere').length, 3);
    succeeds(status(elsewhere));
    assert.equal(site.reservations('elsewhere'), []);
    assert.is(readFileSync(join(site.dataDir, 'elsewhere/last_reserved_ip.0'), 'utf8'), '10.1.9.4');
    assert.is(site.add(pods[0]!, elsewhere, { ...machine.through, ifname: 'eth1' }).ips![0]!.address, '10.1.9.5/29');

    // The late DEL of one that is gone harms nobody.
    for (const pod of lost) site.delete({ ...pod, id: `old-${pod.id}` }, ours, { ...machine.through, netns: '' });
    assert.equal(site.reservations(), [...addresses].sort());

    const said = reference(site, 'host-local', 'ADD', { ...spare, id: 'new' }, { ...theirs, cniVersion: '1.0.0' });
    assert.match(said.document?.msg ?? '', /no IP addresses available/, 'the reference is full for ever');
  },
  'all at once, into a range that was full',
);

difference(
  'f',
  async () => {
    const site = sites().make();
    const machine = await Machine.start(site);
    const { ours } = pair(site, { cniVersion: '1.1.0' });
    const theirs = { ...ours, cniVersion: '1.0.0', ipam: { ...(ours['ipam'] as Keys), type: 'host-local' } };
    const pod = (id: string): PodSpace => ({ namespace: '', path: '/run/netns/absent', id });
    const byWeft = (id: string) => succeeds(ipamOnly(site, pod(id), 'ADD', ours, machine.through));
    const byHostLocal = (id: string) => succeeds(reference(site, 'host-local', 'ADD', pod(id), theirs));
    const holders = () =>
      site
        .reservations()
        .map((name) => site.reservation(name).split('\r\n')[0])
        .sort();

    // host-local, then Weft for the first time: these reservations may be living.
    byHostLocal('first');
    machine.reboot();
    byHostLocal('living');
    byWeft('a');
    assert.equal(holders(), ['a', 'first', 'living']);
    // In the same boot, there and back again.
    byHostLocal('b');
    byWeft('c');
    assert.equal(holders(), ['a', 'b', 'c', 'first', 'living']);
    // A reboot with Weft: all that it has seen is an earlier boot's.
    machine.reboot();
    byWeft('d');
    assert.equal(holders(), ['d']);
    // A reboot, and host-local before Weft: its containers live.
    machine.reboot();
    for (const id of ['e', 'f']) byHostLocal(id);
    byWeft('g');
    assert.equal(holders(), ['e', 'f', 'g']);
    succeeds(ipamOnly(site, pod('e'), 'CHECK', { ...ours, prevResult: { cniVersion: '1.1.0' } }, machine.through));
    // GC, DEL and CHECK free as ADD does.
    for (const command of ['GC', 'DEL', 'CHECK']) {
      machine.reboot();
      const keys = { 'cni.dev/valid-attachments': [{ containerID: 'e', ifname: 'eth0' }], prevResult: { ips: [] } };
      const { status } = ipamOnly(site, pod('nobody'), command, { ...ours, ...keys }, machine.through);
      assert.is(status, command === 'CHECK' ? 1 : 0);
      assert.equal(holders(), [], command);
      byWeft('e');
    }
  },
  'moving from host-local and back',
);

difference('g', () => {
  const site = sites().make();
  const pod = site.addPod();
  const { ours, theirs } = pair(site);
  const folders = { store: site.dataDir, reference: join(site.folder, 'reference') };
  const emptyIn = (name: keyof typeof folders): string[] =>
    runProgram(['find', join(folders[name], 'net'), '-name', '10.*', '-size', '0'])
      .split('\n')
      .filter(Boolean);
  const plugins = [
    [
      'store',
      (command: string, id: string, options: CallOptions) => ipamOnly(site, { ...pod, id }, command, ours, options),
    ],
    [
      'reference',
      (command: string, id: string, options: CallOptions) =>
        reference(site, 'host-local', command, { ...pod, id }, theirs, options),
    ],
  ] as const;
  const left = plugins.map(([folder, call]) => {
    succeeds(call('ADD', 'first', {}));
    const kill = (nth: number): CallOptions => ({
      through: [
        'strace',
        '-f',
        '-qq',
        '-o',
        '/dev/null',
        '-e',
        'trace=write',
        '-e',
        `inject=write:signal=KILL:when=${nth}`,
      ],
    });
    let [killed, empty] = [0, 0];
    for (let nth = 1; nth <= 12; nth++) {
      if (call('ADD', `c${nth}`, kill(nth)).status !== 0) killed++;
      empty += emptyIn(folder).length;
    }
    assert.ok(killed > 1, `${folder}: killed ${killed} times`);
    for (let nth = 1; nth <= 12; nth++) succeeds(call('DEL', `c${nth}`, {}));
    return { folder, empty, lastly: emptyIn(folder).length };
  });
  assert.equal(left[0], { folder: 'store', empty: 0, lastly: 0 });
  assert.ok(left[1]!.lastly > 0, 'the reference leaves one that no DEL removes');

  // Its remains are no obstacle.
  site.writeStore('10.1.2.200', '');
  succeeds(ipamOnly(site, pod, 'ADD', ours, { args: 'IP=10.1.2.200' }));
  assert.is(reference(site, 'host-local', 'ADD', pod, theirs, { args: 'IP=10.1.2.3' }).status, 1);
});

difference('h', () => {
  const site = sites().make();
  const pod = site.addPod();
  const { ours, theirs } = pair(site, {}, { subnet: '10.1.0.0/16' });
  const opened = (call: (options: CallOptions) => Outcome): number =>
    trace(site, 'open,openat', (options) => succeeds(call(options))).filter((line) => /\/net\/10\.1\./.test(line))
      .length;
  const count = () => ({
    weft: [
      opened((options) => ipamOnly(site, pod, 'ADD', ours, options)),
      opened((options) => ipamOnly(site, pod, 'DEL', ours, options)),
    ],
    reference: [
      opened((options) => reference(site, 'host-local', 'ADD', pod, theirs, options)),
      opened((options) => reference(site, 'host-local', 'DEL', pod, theirs, options)),
    ],
  });
  const few = count();
  for (const folder of [site.dataDir, join(site.folder, 'reference')]) {
    for (let i = 0; i < 1000; i++) {
      writeFileSync(join(folder, 'net', `10.1.${100 + (i >> 8)}.${i & 255}`), `c${i}\r\neth0`);
    }
  }
  // The first call after others have written to the store makes the index anew.
  succeeds(ipamOnly(site, { ...pod, id: 'first' }, 'ADD', ours));
  const many = count();
  console.log(`\n  reservations opened by ADD and DEL, beside none and 1000: ${JSON.stringify([few, many])}`);
  assert.equal(many.weft, few.weft);
  assert.ok(many.reference.every((files) => files >= 1000));
});

difference('i', () => {
  const site = sites().make();
  const [pod, other] = site.addPods(2) as [PodSpace, PodSpace];
  const { ours, theirs } = pair(site, { isGateway: true });
  /** strace does not know every socket's protocol: RTM_DELLINK is 0x11. */
  const steps = { link: /send.*type=(RTM_DELLINK|0x11)\b/, address: /unlink.*\/10\.1\.2\.\d+"/ };
  const order = (lines: readonly string[]): string[] =>
    lines.flatMap((line) =>
      Object.entries(steps)
        .filter(([, pattern]) => pattern.test(line))
        .map(([step]) => step),
    );
  const calls = 'unlink,unlinkat,sendto,sendmsg';
  site.add(pod, ours);
  const weft = order(trace(site, calls, (options) => site.delete(pod, ours, options)));
  assert.equal(weft, ['link', 'address']);

  // Which of its plugins does so depends on its version.
  const theirOrders = ['bridge', 'ptp'].map((type) => {
    const configuration = { ...theirs, name: type, type };
    succeeds(reference(site, type, 'ADD', other, configuration));
    return order(
      trace(site, calls, (options) => succeeds(reference(site, type, 'DEL', other, configuration, options))),
    );
  });
  console.log(`\n  DEL: ${weft.join(', then ')}; the reference's bridge and ptp ${JSON.stringify(theirOrders)}`);
  assert.ok(theirOrders.some(([first]) => first === 'address'));
});

difference('j', async () => {
  const site = sites().make();
  const [pod, other] = site.addPods(2) as [PodSpace, PodSpace];
  const mounts = await MountNamespace.open(site.scratch, 'slave');
  const lock = join(site.folder, 'xtables.lock');
  writeFileSync(lock, '');
  writeFileSync('/run/xtables.lock', '', { flag: 'a' });
  mounts.mount('--bind', lock, '/run/xtables.lock');
  const folder = site.scratch.makeFolder('legacy');
  for (const verb of ['', '-restore', '-save']) {
    symlinkSync(findProgram(`iptables-legacy${verb}`), join(folder, `iptables${verb}`));
  }
  const holder = site.scratch.start(['flock', '--exclusive', '--no-fork', lock, 'sleep', 'infinity'], {
    logFile: join(site.folder, 'flock.log'),
  });
  await waitFor('the lock to be held', () => execute(['flock', '--nonblock', lock, 'true']).status === 1);
  const options = { through: mounts.enter(), environment: { PATH: `${folder}:${environment.PATH}` } };
  const { ours, theirs } = pair(site, { isGateway: true, ipMasq: true });

  let isDone = false;
  const waiting = site
    .weftAsync('ADD', other, theirs, { ...options, executable: join(referenceFolder, 'bridge'), path: bothFolders })
    .then((outcome) => {
      isDone = true;
      return outcome;
    });
  await waitFor('the reference to have made its link', () =>
    readLinks(other.namespace).some(({ name }) => name === 'eth0'),
  );
  const outcome = await site.weftAsync('ADD', pod, ours, options);
  succeeds(outcome);
  assert.not(isDone, 'the reference waits');
  succeeds(await site.weftAsync('DEL', pod, ours, options));
  assert.not(isDone, 'the reference still waits');
  await holder.stop();
  succeeds(await waiting);
});

difference('k', async () => {
  const site = sites().make();
  const [pod, other] = site.addPods(2) as [PodSpace, PodSpace];
  const { ours, theirs } = pair(site, { isDefaultGateway: true }, { subnet: 'fd00:1::/64' });
  // Its bridge has learned it by this version, ptp has not.
  const ptp = await timed(() => succeeds(reference(site, 'ptp', 'ADD', other, { ...theirs, type: 'ptp' })));
  const weft = await timed(() => site.add(pod, { ...ours, ipam: site.ipam({ subnet: 'fd00:2::/64' }) }));
  console.log(`\n  ADD with IPv6: ${weft.ms.toFixed(0)} ms, the reference's ptp ${ptp.ms.toFixed(0)} ms`);
  assert.ok(ptp.ms > 1000, `the reference takes ${ptp.ms} ms`);
  assert.ok(weft.ms < ptp.ms / 2, `${weft.ms} ms`);
  const shown = runProgram(['ip', '-n', pod.namespace, '-6', 'addr', 'show', 'eth0', 'scope', 'global']);
  assert.match(shown, /fd00:2::2\/64/);
  assert.not.match(shown, /tentative/);
});

if (pluginHost === 'native') {
  test('each of the differences (a) to (k) has a test', () => {
    assert.equal([...covered].sort(), [...'abcdefghijk']);
  });
}

run();
