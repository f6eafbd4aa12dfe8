import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  interfaceNameProblem,
  isIdentifier,
  parseArguments,
  readEnvironment,
} from '../../../../cni/spec/environment.ts';
import { refused } from '../refused.ts';

const test = suite('cni/spec/environment');

const bad = (run: () => unknown, message: RegExp) => refused(run, 4, message);

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

test('given variables are read', () => {
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

test('missing variables are named together, for each command', () => {
  const none = { CNI_CONTAINERID: '', CNI_NETNS: undefined, CNI_IFNAME: undefined, CNI_PATH: undefined };
  const missing = (command: string) => () => read({ ...none, CNI_COMMAND: command });
  bad(missing('ADD'), /^ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH in the environment$/);
  bad(missing('CHECK'), /CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH/);
  bad(missing('DEL'), /^DEL needs CNI_CONTAINERID, CNI_IFNAME, CNI_PATH in/);
  bad(missing('GC'), /^GC needs CNI_PATH in/);
  bad(missing('STATUS'), /^STATUS needs CNI_PATH in/);
  assert.is(missing('NONSENSE')().command, 'NONSENSE', 'an unknown command needs nothing yet');
});

test('a bad value is reported before missing variables', () => {
  bad(() => read({ CNI_CONTAINERID: '%%', CNI_NETNS: undefined }), /^CNI_CONTAINERID "%%" is not/);
  bad(() => read({ CNI_IFNAME: '..', CNI_PATH: undefined }), /^CNI_IFNAME "\.\."/);
  assert.is(read({ CNI_COMMAND: 'GC', CNI_IFNAME: '..' }).ifname, '..', 'not looked at where it is not needed');
});

test('container ids are checked', () => {
  for (const good of ['a', 'A9', '0.x_-', 'x'.repeat(300)]) assert.ok(isIdentifier(good), good);
  for (const wrong of ['', '%%', '-a', '.a', 'a\n', 'a b', 'ä', 'a/b']) assert.not(isIdentifier(wrong), wrong);
});

test('interface names are checked', () => {
  for (const good of ['eth0', 'a', 'x'.repeat(15), 'a.b', 'é234567890123'])
    assert.is(interfaceNameProblem(good), undefined);
  for (const wrong of ['', '.', '..', 'x'.repeat(16), 'é23456789012345', 'a/b', 'a:b', 'a b', 'a\t']) {
    assert.type(interfaceNameProblem(wrong), 'string', wrong);
  }
});

test('CNI_ARGS is read as pairs, and refused if malformed', () => {
  assert.equal(parseArguments(''), {});
  assert.equal(parseArguments('IP=10.0.0.2;MAC=0a:00:00:00:00:01'), { IP: '10.0.0.2', MAC: '0a:00:00:00:00:01' });
  assert.equal(parseArguments('K8S_POD_NAME=p;IgnoreUnknown=1;IP=::1'), { IP: '::1' });
  bad(() => parseArguments('K8S_POD_NAME=p'), /holds "K8S_POD_NAME", which Weft does not know/);
  bad(() => parseArguments('A=1;IgnoreUnknown=0'), /"A"/);
  bad(() => parseArguments('ip=10.0.0.2'), /"ip"/);
  for (const text of ['FOO', 'IP=10.0.0.2;', 'IP=a=b']) bad(() => parseArguments(text), /not "key=value"/);
  bad(() => parseArguments('IgnoreUnknown=maybe'), /not 1 or 0/);
});

test.run();
