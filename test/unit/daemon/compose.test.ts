import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeStatus } from '../../../cluster/status.ts';
import { composeNode, type ProcessHost } from '../../../daemon/compose.ts';
import { parseDaemonOptions } from '../../../daemon/options.ts';
import { openLogger } from '../../../daemon/report/log.ts';
import { startService } from '../../../daemon/service.ts';
import { errno } from '../../../linux/errors.ts';
import type { Sys } from '../../../linux/sys.ts';
import { waitFor } from '../../lab/wait.ts';
import { MemoryCluster } from '../../support/memory-store.ts';

const test = suite('daemon/compose');

/** A system that has a clock and randomness, and nothing else. */
const emptySys = new Proxy(
  {
    clock_gettime: () => performance.now(),
    getrandom: (_buffer: ArrayBuffer, _offset: number, length: number) => length,
    getpid: () => 7,
  } as Record<string | symbol, unknown>,
  { get: (known, name) => known[name] ?? (() => -errno.ENOENT) },
) as unknown as Sys;

const host: ProcessHost = {
  sys: emptySys,
  environment: {},
  version: '1.2.3',
  runtime: 'test',
  releaseMemory() {},
  collectGarbage() {},
};

function ask(socketPath: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path, headers: { host: 'weftd' } }, (response) => {
      let body = '';
      response.on('data', (part) => {
        body += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asking.on('error', reject);
    asking.end();
  });
}

/** The first line of the answer. */
function askPort(port: number, path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.on('data', (part) => {
      text += part.toString();
    });
    socket.on('close', () => resolve(text.split('\r\n')[0]!));
    socket.write(`GET ${path} HTTP/1.1\r\n\r\n`);
  });
}

test('weftd is built on another store, without a kernel: it answers, says why it waits, and ends cleanly', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-compose-'));
  const lines: string[] = [];
  try {
    const options = parseDaemonOptions(
      [
        `--run-dir=${folder}`,
        `--state-dir=${folder}`,
        `--subnet-file=${folder}/subnet.env`,
        '--node=h1',
        '--healthz-port=1',
      ],
      {},
    );
    const cluster = new MemoryCluster();
    let closed = 0;
    const store = { ...cluster.storeOf('h1'), close: () => void closed++ };
    const logger = openLogger({ level: 'info', format: 'text', write: (line) => lines.push(line), now: () => 0 });
    const parts = await composeNode(
      host,
      { ...options, healthz: { ...options.healthz!, port: 0 } },
      logger,
      async () => ({
        config: cluster.configSource(),
        leases: store,
      }),
    );
    const service = await startService(host, parts);
    const socket = join(folder, 'weftd.sock');
    const waiting = await waitFor('the missing network config to be reported', async () => {
      const status: NodeStatus = JSON.parse((await ask(socket, '/status')).body);
      return status.problems.some((problem) => /network config/i.test(problem)) && status;
    });
    assert.is(waiting.node, 'h1');
    assert.is(waiting.version, '1.2.3');
    assert.is(waiting.pid, 7);
    assert.is(waiting.state, 'starting');
    const ready = await ask(socket, '/readyz');
    assert.is(ready.status, 503);
    assert.ok(waiting.problems.includes(ready.body.trim()), ready.body);
    assert.is((await ask(socket, '/healthz')).body, 'ok\n');
    const port = Number(/ at=127\.0\.0\.1:(\d+)/.exec(lines.find((line) => line.includes('/healthz'))!)![1]);
    assert.is(await askPort(port, '/healthz'), 'HTTP/1.1 200 OK');
    assert.is(await askPort(port, '/status'), 'HTTP/1.1 404 Not Found');
    service.reload();
    await service.stop();
    assert.is(closed, 1);
    assert.not(existsSync(socket));
    assert.is(
      parts.problems.all.some(({ head }) => head.code === 'network-events'),
      true,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
