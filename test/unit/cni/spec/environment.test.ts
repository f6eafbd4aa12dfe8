import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  interfaceNameProblem,
  isIdentifier,
  parseArguments,
  readEnvironment,
} from '../../../../cni/spec/environment.ts';
import { CniError } from '../../../../cni/spec/errors.ts';

const test = suite('cni/spec/environment');

const refused = (run: () => unknown, message: RegExp) => {
  try {
    run();
  } catch (error) {
    assert.instance(error, CniError);
    assert.is((error as CniError).code, 4);
    assert.match((error as CniError).message, message);
    return;
  }
  assert.unreachable('it was accepted');
};

const whole = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'id',
  CNI_NETNS: '/run/netns/x',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/a::/b',
};
const read = (changes: Record<string, string | undefined> = {}) =>
  readEnvironment(
    Object.entries({ ...whole, ...changes }).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}=${value}`],
    ),
  );

test('what is given is read', () => {
  const { command, containerId, netns, ifname, path, netnsOverride, args } = read({ CNI_ARGS: 'A=B=C' });
  assert.equal(
    { command, containerId, netns, ifname, path, netnsOverride, args },
    {
      command: 'ADD',
      containerId: 'id',
      netns: '/run/netns/x',
      ifname: 'eth0',
      path: ['/a', '/b'],
      netnsOverride: false,
      args: 'A=B=C',
    },
  );
  for (const value of ['1', 'TRUE', 'true']) assert.ok(read({ CNI_NETNS_OVERRIDE: value }).netnsOverride);
});

test('what is missing is named together, by command', () => {
  const none = { CNI_CONTAINERID: '', CNI_NETNS: undefined, CNI_IFNAME: undefined, CNI_PATH: undefined };
  const missing = (command: string) => () => read({ ...none, CNI_COMMAND: command });
  refused(missing('ADD'), /^ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH in the environment$/);
  refused(missing('CHECK'), /CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH/);
  refused(missing('DEL'), /^DEL needs CNI_CONTAINERID, CNI_IFNAME, CNI_PATH in/);
  refused(missing('GC'), /^GC needs CNI_PATH in/);
  refused(missing('STATUS'), /^STATUS needs CNI_PATH in/);
  assert.is(missing('NONSENSE')().command, 'NONSENSE', 'an unknown command needs nothing yet');
});

test('a bad value goes before what is missing', () => {
  refused(() => read({ CNI_CONTAINERID: '%%', CNI_NETNS: undefined }), /^CNI_CONTAINERID "%%" is not/);
  refused(() => read({ CNI_IFNAME: '..', CNI_PATH: undefined }), /^CNI_IFNAME "\.\."/);
  assert.is(read({ CNI_COMMAND: 'GC', CNI_IFNAME: '..' }).ifname, '..', 'not looked at where it is not needed');
});

test('identifiers', () => {
  for (const good of ['a', 'A9', '0.x_-', 'x'.repeat(300)]) assert.ok(isIdentifier(good), good);
  for (const bad of ['', '%%', '-a', '.a', 'a\n', 'a b', 'ä', 'a/b']) assert.not(isIdentifier(bad), bad);
});

test('names of interfaces', () => {
  for (const good of ['eth0', 'a', 'x'.repeat(15), 'a.b', 'é234567890123'])
    assert.is(interfaceNameProblem(good), undefined);
  for (const bad of ['', '.', '..', 'x'.repeat(16), 'é23456789012345', 'a/b', 'a:b', 'a b', 'a\t']) {
    assert.type(interfaceNameProblem(bad), 'string', bad);
  }
});

test('CNI_ARGS', () => {
  assert.equal(parseArguments(''), {});
  assert.equal(parseArguments('IP=10.0.0.2;MAC=0a:00:00:00:00:01'), { IP: '10.0.0.2', MAC: '0a:00:00:00:00:01' });
  assert.equal(parseArguments('K8S_POD_NAME=p;IgnoreUnknown=1;IP=::1'), { IP: '::1' });
  refused(() => parseArguments('K8S_POD_NAME=p'), /holds "K8S_POD_NAME", which Weft does not know/);
  refused(() => parseArguments('A=1;IgnoreUnknown=0'), /"A"/);
  refused(() => parseArguments('ip=10.0.0.2'), /"ip"/);
  for (const text of ['FOO', 'IP=10.0.0.2;', 'IP=a=b']) refused(() => parseArguments(text), /not "key=value"/);
  refused(() => parseArguments('IgnoreUnknown=maybe'), /not 1 or 0/);
});

test.run();
