import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseProcess } from '../../../../daemon/answers/process-figures.ts';

const test = suite('daemon/answers/process-figures');

test("the process's figures are read from /proc", () => {
  const stat = `42 (weftd) (x) S 1 42 42 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 9 0 1200 99999999 18000 0 0`;
  const status = 'Name:\tweftd\nVmSize:\t    2048 kB\nVmRSS:\t   1024 kB\n';
  assert.equal(parseProcess(stat, status, 1_000_000), {
    cpuSeconds: 2,
    residentBytes: 1024 * 1024,
    virtualBytes: 2048 * 1024,
    startSeconds: 1_000_012,
  });
  assert.is(parseProcess('42 (weftd) S', status, 0), undefined);
});

test.run();
