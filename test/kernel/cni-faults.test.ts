/**
 * ADD with each of its system calls failing in turn, and dying before each in turn: an error that says why, and nothing
 * left; after a death, nothing left once DEL has run. In namespaces of its own, as root.
 */

import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runAdd } from '../../cni/add.ts';
import type { AttachmentPart } from '../../cni/attachment-part.ts';
import { runDel } from '../../cni/del.ts';
import { runGc } from '../../cni/gc.ts';
import { addParts, deleteParts } from '../../cni/parts.ts';
import { CniError, toCniError } from '../../cni/spec/errors.ts';
import type { CniRequest } from '../../cni/spec/request.ts';
import { errno } from '../../linux/errors.ts';
import { dumpAddresses } from '../../linux/netlink/address.ts';
import { openNetlink, socket } from '../../linux/netlink/connection.ts';
import { deleteLink, dumpLinks } from '../../linux/netlink/link.ts';
import { inNamespace, openCurrentNamespace, openNamespace } from '../../linux/netns.ts';
import { openNft } from '../../linux/nft/connection.ts';
import type { Sys } from '../../linux/sys.ts';
import { sys } from '../../linux/sys-bun.ts';
import { formatPrefix } from '../../net/prefix.ts';
import { hostVethName } from '../../reservations/host-end.ts';
import { Scratch } from '../lab/scratch.ts';
import { failAt, Killed, killAt, type SysCall, wrapSys } from '../support/faulty-sys.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('cni-faults');

interface Site {
  readonly scratch: Scratch;
  readonly own: number;
  readonly host: number;
  readonly pod: number;
  readonly podPath: string;
  readonly dataDir: string;
}

const site = fixture<Site>(
  test,
  () => {
    const scratch = new Scratch('faults');
    const [hostName, podName] = scratch.addNamespaces(['host', 'pod']) as [string, string];
    writeFileSync(
      join(scratch.folder, 'node.json'),
      JSON.stringify({ version: 1, node: 'a', networks: [], subnets: ['10.77.5.0/24', 'fd00:77::/64'], mtu: 1450 }),
    );
    return {
      scratch,
      own: openCurrentNamespace(sys),
      host: openNamespace(sys, `/run/netns/${hostName}`),
      pod: openNamespace(sys, `/run/netns/${podName}`),
      podPath: `/run/netns/${podName}`,
      dataDir: join(scratch.folder, 'data'),
    };
  },
  ({ scratch, own, host, pod }) => {
    for (const fd of [own, host, pod]) sys.close(fd);
    scratch.remove();
  },
);

/** A new one for each call: the verbs rename keys in place. */
function request(command: 'ADD' | 'DEL' | 'GC', keys: Record<string, unknown> = {}): CniRequest {
  const { scratch, podPath, dataDir } = site();
  const configuration = {
    cniVersion: '1.1.0',
    name: 'net',
    type: 'weft',
    runDir: scratch.folder,
    portIsolation: true,
    ipam: { type: 'weft-ipam', dataDir },
    ...keys,
  };
  return {
    command,
    containerId: 'abc',
    netns: podPath,
    ifname: 'eth0',
    args: '',
    path: ['/nonexistent'],
    netnsOverride: false,
    all: [],
    network: 'net',
    cniVersion: '1.1.0',
    configuration,
    stdin: new TextEncoder().encode(JSON.stringify(configuration)),
  };
}

const onHost = <T>(body: () => T): T => inNamespace(sys, { from: site().own, to: site().host }, body);

/** Ends on the host's side whatever `body` leaves the thread in: a process that dies takes its namespace with it. */
function add(faulty: Sys): string {
  return onHost(() => {
    try {
      return runAdd(faulty, request('ADD'));
    } finally {
      sys.setns(site().host, 0);
    }
  });
}

/** The attachments' rules in the packet filter. */
function filterRules(): string[] {
  return onHost(() => {
    const nft = openNft(sys);
    try {
      return [
        ...nft.listRules({ family: 'inet', name: 'cni_plugins_masquerade' }, 'masq_checks'),
        ...nft.listRules({ family: 'bridge', name: 'nat' }, 'PREROUTING'),
      ].map(({ comment }) => comment ?? '');
    } finally {
      nft.close();
    }
  });
}

const del = (): void => onHost(() => runDel(sys, request('DEL')));

function inspect(namespace: number): { links: string[]; addresses: string[] } {
  const connection = openNetlink(sys, { namespace });
  try {
    const links = connection.dump(dumpLinks()).filter(({ name }) => name !== 'lo' && name !== 'cni0');
    const addresses = connection
      .dump(dumpAddresses())
      .filter(({ index }) => links.some((link) => link.index === index));
    return { links: links.map(({ name }) => name), addresses: addresses.map(({ prefix }) => formatPrefix(prefix)) };
  } finally {
    connection.close();
  }
}

function reservations(): string[] {
  try {
    return readdirSync(join(site().dataDir, 'net')).filter((name) => !/^(lock|last_reserved_ip\.\d)$/.test(name));
  } catch {
    return [];
  }
}

function assertNothingLeft(when: string): void {
  const { host, pod } = site();
  const found = { host: inspect(host), pod: inspect(pod), reservations: reservations() };
  const nothing = { links: [], addresses: [] };
  assert.equal(found, { host: nothing, pod: nothing, reservations: [] }, when);
}

/** The bridge is the host's and stays; with `fresh` it is made anew by the next ADD, and so is the store. */
function reset(fresh: boolean): void {
  if (!fresh) return;
  rmSync(site().dataDir, { recursive: true, force: true });
  const connection = openNetlink(sys, { namespace: site().host });
  try {
    connection.executeEach([deleteLink({ name: 'cni0' })]);
  } finally {
    connection.close();
  }
}

/** The calls that an ADD makes. */
function recordCalls(): SysCall[] {
  const calls: SysCall[] = [];
  add(
    wrapSys(sys, (call) => {
      calls.push(call);
      return undefined;
    }),
  );
  del();
  return calls;
}

/** The way back to the host's namespace: where that fails the program ends at once, which has a test of its own. */
const isWayBack = (calls: readonly SysCall[], { name, number }: SysCall): boolean =>
  name === 'setns' && calls.filter((call) => call.name === 'setns' && call.number <= number).length % 2 === 0;

/**
 * Whether a call is about the store's index, which is done without where it cannot be used: its own files, and what
 * tells whether it is complete, the time of the store's folder and the boot.
 */
function isOfIndex(calls: readonly SysCall[], call: SysCall): boolean {
  const { name, number, args } = call;
  if (name === 'utimensat' || name === 'clock_gettime') return true;
  if (name === 'stat' && args[0] === join(site().dataDir, 'net')) return true;
  const opened = calls.findLast((each) => each.name === 'open' && each.number <= number);
  const path = ['fstat', 'read', 'write', 'ftruncate'].includes(name) ? opened?.args[0] : args[0];
  return typeof path === 'string' && (path.includes('/.weft') || bootFiles.includes(path));
}
const bootFiles = ['/proc/sys/kernel/random/boot_id', '/etc/machine-id'];

const describe = ({ name, number, args }: SysCall): string =>
  `call ${number}: ${name}(${args.filter((arg) => typeof arg !== 'object').join(', ')})`;

test('ADD without faults makes two links, two addresses per family and two reservations', () => {
  const calls = recordCalls();
  assert.ok(calls.length > 50, `${calls.length} calls`);
  add(sys);
  assert.equal(reservations().length, 2);
  assert.is(inspect(site().host).links[0], hostVethName({ network: 'net', containerId: 'abc', ifname: 'eth0' }));
  del();
  assertNothingLeft('after DEL');
});

for (const fresh of [false, true]) {
  test(`if any one system call fails, ADD undoes everything: ${fresh ? 'on a new host' : 'the bridge exists before'}`, () => {
    reset(fresh);
    const calls = recordCalls();
    const tolerated: string[] = [];
    for (const call of calls) {
      if (isWayBack(calls, call)) continue;
      reset(fresh);
      const what = describe(call);
      let failure: CniError | undefined;
      try {
        add(failAt(sys, call.number, errno.EIO));
      } catch (error) {
        failure = toCniError(error);
      }
      if (failure) {
        assert.not.equal(failure.code, 999, `${what}: ${failure.message} ${failure.details}`);
        assert.match(`${failure.message} ${failure.details}`, /EIO/, what);
        assertNothingLeft(what);
      } else {
        if (!isOfIndex(calls, call)) tolerated.push(what);
      }
      del();
      assertNothingLeft(`${what}, and DEL`);
    }
    // No other call may fail without harm.
    assert.equal(tolerated, []);
  });
}

test("if there is no way back to the host's namespace, the process ends after it has written an error document", () => {
  reset(true);
  const calls = recordCalls();
  const waysBack = calls.filter((call) => isWayBack(calls, call));
  assert.ok(waysBack.length >= 2);
  for (const { number } of waysBack) {
    reset(true);
    let output = '';
    let isOver = false;
    const failing = wrapSys(failAt(sys, number, errno.EPERM), () => {
      if (isOver) throw new Killed('behind the exit');
      return undefined;
    });
    const last: Sys = {
      ...failing,
      write: (fd, buffer, offset, length) => {
        if (fd !== 1) return failing.write(fd, buffer, offset, length);
        output += new TextDecoder().decode(new Uint8Array(buffer, offset, length));
        return length;
      },
      exit: (status) => {
        isOver = true;
        throw new Killed(`exit status ${status}`);
      },
    };
    assert.throws(
      () => add(last),
      (error: unknown) => /exit status 1/.test(`${error} ${(error as Error).cause}`),
    );
    assert.match(output, /^[^\n]+\n$/, `call ${number}`);
    const { cniVersion, code, msg, details } = JSON.parse(output);
    assert.equal([cniVersion, code, details], ['1.1.0', 108, 'EPERM']);
    assert.match(msg, /^Cannot return to the host's network namespace: EPERM/);
    del();
    assertNothingLeft(`call ${number}, and DEL`);
  }
});

test('DEL frees everything if ADD is killed before any one system call, on a new host', () => {
  reset(true);
  const calls = recordCalls();
  for (const call of calls) {
    reset(true);
    assert.throws(
      () => add(killAt(sys, call.number)),
      (error: unknown) => error instanceof Killed || (error as Error).cause instanceof Killed,
      describe(call),
    );
    del();
    const left = reservations().filter((name) => name !== '.weft-reservation');
    assert.equal(left, [], describe(call));
    assert.equal([inspect(site().host).links, inspect(site().pod).links], [[], []], describe(call));
    add(sys);
    del();
    assertNothingLeft(`${describe(call)}, and another ADD and DEL`);
  }
});

test('if any one call that sets rules fails, the rules are undone, or removed by DEL', () => {
  const keys = { ipMasq: true, macspoofchk: true };
  const addWith = (faulty: Sys): string =>
    onHost(() => {
      try {
        return runAdd(faulty, request('ADD', keys), addParts);
      } finally {
        sys.setns(site().host, 0);
      }
    });
  const delWith = () => onHost(() => runDel(sys, request('DEL', keys), deleteParts));
  let last = 0;
  let first = 0;
  addWith(
    wrapSys(sys, ({ name, number, args }) => {
      last = number;
      if (name === 'socket' && args[2] === socket.NETLINK_NETFILTER && first === 0) first = number;
      return undefined;
    }),
  );
  assert.is(filterRules().length, 3, 'two addresses and a MAC');
  delWith();
  assert.equal(filterRules(), []);
  assert.ok(first > 0 && last - first > 8, `calls ${first} to ${last}`);
  for (let n = first; n <= last; n++) {
    assert.throws(() => addWith(failAt(sys, n, errno.EIO)), /EIO|errno/, `call ${n}`);
    assert.equal(filterRules(), [], `call ${n}`);
    assertNothingLeft(`call ${n}`);
    assert.throws(() => addWith(killAt(sys, n)));
    delWith();
    assert.equal(filterRules(), [], `killed before call ${n}`);
    assertNothingLeft(`killed before call ${n}`);
  }
});

test('if a further part of an attachment fails, everything is undone, the rules of other parts included', () => {
  const keys = { ipMasq: true, macspoofchk: true };
  const seen: string[] = [];
  const part: AttachmentPart = {
    afterAttach(_place, plan) {
      seen.push(plan.container.name);
      throw new Error('refused');
    },
  };
  assert.throws(() => onHost(() => runAdd(sys, request('ADD', keys), [...addParts, part])), /refused/);
  assert.equal(seen, ['eth0']);
  assert.equal(filterRules(), []);
  assertNothingLeft('a part that fails');
});

test('DEL and GC succeed on a kernel without nf_tables', () => {
  const without = (number: number) =>
    wrapSys(sys, ({ name, args }) => (name === 'socket' && args[2] === socket.NETLINK_NETFILTER ? number : undefined));
  const keys = { ipMasq: true, macspoofchk: true };
  onHost(() => {
    runDel(without(errno.EPROTONOSUPPORT), request('DEL', keys), deleteParts);
    runGc(without(errno.EPROTONOSUPPORT), request('GC'));
    assert.throws(() => runDel(without(errno.EMFILE), request('DEL', keys), deleteParts), /EMFILE/);
  });
});

test('if the kernel refuses a route, the error names it and ADD is undone', () => {
  const { pod } = site();
  const refused = (routes: unknown[], message: RegExp) => {
    const bad = request('ADD');
    (bad.configuration['ipam'] as Record<string, unknown>)['routes'] = routes;
    try {
      onHost(() => runAdd(sys, bad));
      assert.unreachable();
    } catch (error) {
      assert.instance(error, CniError);
      assert.is((error as CniError).code, 107);
      assert.match((error as CniError).message, message);
    }
    assertNothingLeft(JSON.stringify(routes));
  };
  refused([{ dst: '10.9.0.0/16', gw: '192.0.2.1' }], /^Cannot add route "10\.9\.0\.0\/16" via 192\.0\.2\.1/);
  refused([{ dst: 'fd09::/64', gw: 'fd08::1' }], /fd09::\/64/);
  assert.equal(inspect(pod).links, []);
});

test.run();
