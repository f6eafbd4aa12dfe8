import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { LeaseMemory } from '../../../../cluster/store.ts';
import { openMemory } from '../../../../daemon/membership/memory-file.ts';
import { errno, SyscallError } from '../../../../linux/errors.ts';

const test = suite('daemon/membership/memory-file');

test('a file that cannot be written, and one without room for all peers, are one problem until they are right', () => {
  const told: (string | undefined)[] = [];
  const written: string[] = [];
  let leftOut = 3;
  let isFull = false;
  const memory = openMemory(
    {
      readMemory: () => written.at(-1),
      writeMemory: (text) => {
        if (isFull) throw new SyscallError(['write', '/x/cluster.json'], errno.ENOSPC);
        written.push(text);
      },
    },
    { format: () => ({ text: 'text', leftOut }), parse: () => undefined },
    { report: (_kind, message) => void told.push(message) },
    'etcd',
  );
  const knowledge = { peers: [1, 2, 3, 4] } as unknown as LeaseMemory;
  memory.write(knowledge);
  leftOut = 0;
  isFull = true;
  memory.write(knowledge);
  isFull = false;
  memory.write(knowledge);
  assert.equal(written, ['text', 'text']);
  assert.match(
    told[0]!,
    /^The file of known peers has no room for 3 of 4; if etcd loses its data, .* that no node needs$/,
  );
  assert.equal(told.slice(1), ['Cannot write "/x/cluster.json": ENOSPC', undefined]);
});

test.run();
