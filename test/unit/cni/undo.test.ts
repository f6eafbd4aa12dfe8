import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CniError } from '../../../cni/spec/errors.ts';
import { UndoStack } from '../../../cni/undo.ts';

const test = suite('cni/undo');

test('undo runs in reverse order, and the first cause is reported', () => {
  const undone: string[] = [];
  const undo = new UndoStack();
  for (const step of ['a', 'b', 'c']) undo.push(`undo ${step}`, () => undone.push(step));
  const cause = new CniError(7, 'first');
  assert.is(undo.unwind(cause), cause);
  assert.equal(undone, ['c', 'b', 'a']);
});

test('undo continues after a step that cannot be undone, and says so', () => {
  const undone: string[] = [];
  const undo = new UndoStack();
  undo.push('release the address', () => undone.push('a'));
  undo.push('delete "veth1"', () => {
    throw new Error('EBUSY');
  });
  const error = undo.unwind(new CniError(107, 'first', { details: 'why' }));
  assert.equal(undone, ['a']);
  assert.equal([error.code, error.message, error.details], [107, 'first', 'why; could not delete "veth1": EBUSY']);
});

test.run();
