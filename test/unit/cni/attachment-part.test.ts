import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type AttachmentPart, forEachPart, type Workplace } from '../../../cni/attachment-part.ts';
import { addParts, checkParts, collectParts, deleteParts } from '../../../cni/parts.ts';
import type { AttachmentPlan } from '../../../cni/plan.ts';
import { UndoStack } from '../../../cni/undo.ts';

const test = suite('cni/attachment-part');

/** A small part: marks containers, and forgets those that are no longer valid. */
function markingPart(): AttachmentPart & { readonly marks: Set<string> } {
  const marks = new Set<string>();
  return {
    marks,
    afterAttach({ request, undo }) {
      undo.push('remove the mark', () => void marks.delete(request.containerId));
      marks.add(request.containerId);
    },
    beforeRelease: (_sys, { containerId }) => void marks.delete(containerId),
    collect(_sys, _request, valid) {
      for (const mark of marks) if (!valid.some(({ containerId }) => containerId === mark)) marks.delete(mark);
    },
  };
}

const refusing: AttachmentPart = {
  afterAttach() {
    throw new Error('refused');
  },
  beforeRelease() {
    throw new Error('cannot remove');
  },
};

const placeOf = (containerId: string, parts: readonly AttachmentPart[], undo: UndoStack): Workplace =>
  ({ request: { containerId }, parts, undo }) as unknown as Workplace;

test('what a part made is undone when a later part fails', () => {
  const marking = markingPart();
  const undo = new UndoStack();
  const place = placeOf('c1', [marking, refusing], undo);
  const run = () => {
    for (const part of place.parts) part.afterAttach?.(place, {} as AttachmentPlan);
  };
  assert.throws(run, /refused/);
  assert.equal([...marking.marks], ['c1']);
  assert.match(undo.unwind(new Error('refused')).message, /refused/);
  assert.equal([...marking.marks], []);
});

test('DEL goes on past a part that fails, and knows of the failure', () => {
  const marking = markingPart();
  marking.marks.add('c1');
  const request = { containerId: 'c1' } as never;
  const errors = forEachPart([refusing, marking], (part) => part.beforeRelease?.({} as never, request));
  assert.equal(
    errors.map((error) => (error as Error).message),
    ['cannot remove'],
  );
  assert.equal([...marking.marks], []);
});

test('GC asks each part that collects', () => {
  const marking = markingPart();
  for (const id of ['c1', 'c2']) marking.marks.add(id);
  const valid = [{ containerId: 'c2', ifname: 'eth0' }];
  assert.equal(
    forEachPart([marking, refusing], (part) => part.collect?.({} as never, {} as never, valid)),
    [],
  );
  assert.equal([...marking.marks], ['c2']);
});

test('each verb has its parts, and their order', () => {
  assert.equal(
    addParts.map((part) => Object.keys(part)),
    [['afterConnect'], ['afterAttach'], ['afterAttach'], ['afterAttach']],
  );
  assert.equal([deleteParts.length, checkParts.length, collectParts.length], [2, 3, 2]);
});

test.run();
