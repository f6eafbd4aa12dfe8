import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { partsReachedBy } from '../../gate/changed.mjs';

const test = suite('gate/changed');

const reaches = (change: string, file: string): boolean => {
  const [part] = file.split('/');
  const parts: Map<string, string[] | undefined> = partsReachedBy([change]);
  return parts.has(part!) && (parts.get(part!)?.includes(file) ?? true);
};

test('a source reaches its own test and, through the executables, the tests of these', () => {
  assert.ok(reaches('net/prefix.ts', 'unit/net/prefix.test.ts'));
  assert.ok(reaches('net/prefix.ts', 'cluster/healing.test.ts'));
  assert.ok(reaches('runtime/src/main.rs', 'conformance/bridge.test.ts'));
  assert.not(reaches('cni/plan.ts', 'unit/net/prefix.test.ts'));
});

test('a test reaches itself alone; what tests share, or start, reaches those that use it', () => {
  assert.ok(reaches('test/cluster/healing.test.ts', 'cluster/healing.test.ts'));
  assert.not(reaches('test/cluster/healing.test.ts', 'cluster/forward.test.ts'));
  assert.ok(reaches('test/lab/wait.ts', 'cluster/healing.test.ts'));
  assert.ok(reaches('test/lab/echo.main.ts', 'cluster/families.test.ts'));
  assert.ok(reaches('test/fixtures/netlink/fdb.hex', 'unit/linux/netlink/wire.test.ts'));
});

test('the dependencies reach everything but what runs by name only', () => {
  assert.ok(reaches('package-lock.json', 'unit/net/prefix.test.ts'));
  assert.ok(reaches('package-lock.json', 'kernel/netlink.test.ts'));
  assert.not(partsReachedBy(['package-lock.json']).has('guest'));
});

test('no change: lint, types and layers', () => {
  assert.equal([...partsReachedBy([]).keys()], ['lint', 'types', 'layers']);
});

test.run();
