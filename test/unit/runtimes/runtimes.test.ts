/** What runtimes answer, and what a word on the command line means. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Sys } from '../../../linux/sys.ts';
import { type Container, type Runtime, RuntimeError } from '../../../runtimes/container.ts';
import { pidOfInfo } from '../../../runtimes/cri.ts';
import { parseInspected } from '../../../runtimes/docker.ts';
import { findContainer } from '../../../runtimes/find-container.ts';
import { decodeFields, encodeFields, messagesOf, numberOf, ProtobufError, textOf } from '../../../runtimes/protobuf.ts';

const test = suite('runtimes');

test('protocol buffers: there and back, and cut off at every byte', () => {
  const inner = encodeFields({ 1: 'name', 3: 'ns' });
  const outer = Uint8Array.from([
    ...encodeFields({ 1: 'é'.repeat(100), 2: true }),
    0x1a,
    inner.length,
    ...inner,
    0x20,
    0xac,
    0x02,
  ]);
  const fields = decodeFields(outer);
  assert.is(textOf(fields, 1), 'é'.repeat(100));
  assert.equal([numberOf(fields, 2), numberOf(fields, 4), numberOf(fields, 9)], [1, 300, 0]);
  assert.equal(
    messagesOf(fields, 3).map((each) => textOf(each, 3)),
    ['ns'],
  );
  for (let length = 1; length < outer.length; length++) {
    try {
      decodeFields(outer.subarray(0, length));
    } catch (error) {
      assert.instance(error, ProtobufError);
    }
  }
  assert.throws(() => decodeFields(Uint8Array.of(0x0f)), /unknown type 7/);
});

test("Docker's description of a container", () => {
  const id = 'ab'.repeat(32);
  const of = (State: unknown): Container | undefined => parseInspected('docker', { Id: id, Name: '/web', State });
  assert.equal(of({ Pid: 77 }), { runtime: 'docker', id, name: 'web', pid: 77 });
  for (const state of [{ Pid: 0 }, { Pid: -1 }, { Pid: '7' }, {}, null]) assert.is(of(state)?.pid, undefined);
  for (const wrong of [null, 7, {}, { Id: '../x' }, { Id: 7 }]) assert.is(parseInspected('docker', wrong), undefined);
  assert.is(pidOfInfo('{"pid": 12, "more": {}}'), 12);
  for (const text of ['', '[]', '{"pid":"12"}', '{"pid":0}']) assert.is(pidOfInfo(text), undefined);
});

const sys = { stat: (path: string) => (path === '/proc/1234567/ns/net' ? {} : -2) } as unknown as Sys;

const runtime = (kind: Runtime['kind'], find: Runtime['find']): Runtime => ({
  kind,
  title: kind,
  find,
  list: async () => [],
});
const knows = (kind: Runtime['kind'], ...names: string[]): Runtime =>
  runtime(kind, async (word) =>
    names.includes(word) ? { runtime: kind, id: `${kind}-id`, name: word, pid: 1 } : undefined,
  );

async function refusal(runtimes: readonly Runtime[], word: string): Promise<string> {
  try {
    await findContainer(sys, runtimes, word);
  } catch (error) {
    assert.instance(error, RuntimeError);
    return (error as Error).message;
  }
  throw new Error(`"${word}" was found`);
}

test('a word is a process, a container, or refused', async () => {
  const both = [knows('docker', 'web', '123456789012'), knows('podman', 'web', 'db')];
  const find = async (word: string) => (await findContainer(sys, both, word)).runtime;
  assert.is(await find('1234567'), 'pid');
  assert.is(await find('pid:1234567'), 'pid');
  assert.is(await find('123456789012'), 'docker', 'the digits of an id');
  assert.is(await find('db'), 'podman');
  assert.is(await find('podman:web'), 'podman');
  assert.match(await refusal(both, 'web'), /say which, as one of docker:web, podman:web/);
  assert.match(await refusal(both, '99'), /There is no process "99"/);
  assert.match(await refusal(both, 'nobody'), /There is no container "nobody"; asked: docker, podman/);
  assert.match(await refusal(both, 'cri:web'), /There is no "cri" on this host/);
  assert.match(await refusal([], 'web'), /There is no container runtime on this host/);
  for (const word of ['', '-x', 'a b', 'a/b', 'a\nb', 'docker:', 'docker:../x']) {
    assert.match(await refusal(both, word), /neither a process's number nor a container's name/);
  }
});

test('a runtime that does not answer is told only where no other knows the container', async () => {
  const silent = runtime('cri', async () => {
    throw new RuntimeError('Cannot ask containerd');
  });
  assert.is((await findContainer(sys, [silent, knows('docker', 'web')], 'web')).runtime, 'docker');
  assert.is(await refusal([silent, knows('docker', 'web')], 'db'), 'Cannot ask containerd');
});

test.run();
