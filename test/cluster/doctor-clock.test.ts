/** `weftctl doctor` compares this host's clock with the date of any answer of the store. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serviceChecks } from '../../cli/doctor/checks/service.ts';
import type { HostView } from '../../cli/doctor/host-view.ts';

const test = suite('doctor-clock');
const clock = serviceChecks.find(({ code }) => code === 'clock')!;

/** What is found where the store's clock differs by so much; undefined: it gives no date. */
async function findAt(differenceMs: number | undefined): Promise<readonly string[]> {
  const server = createServer((_request, response) => {
    response.sendDate = false;
    if (differenceMs !== undefined) response.setHeader('date', new Date(Date.now() - differenceMs).toUTCString());
    response.statusCode = 404;
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const host = {
    status: async () => ({ etcd: { endpoints: ['http://127.0.0.1:1', endpoint] } }),
    get nowMs() {
      return Date.now();
    },
  } as unknown as HostView;
  try {
    return (await clock.find(host, new AbortController().signal)).map(({ what }) => what);
  } finally {
    server.close();
  }
}

test('a clock that is ahead or behind is found; one that is right, and a store without a date, are not', async () => {
  assert.match((await findAt(3_600_000))[0] ?? '', /^This host's clock is 3\d{3} s ahead of that of "http:/);
  assert.match((await findAt(-600_000))[0] ?? '', /^This host's clock is (599|600|601) s behind that of "http:/);
  assert.equal(await findAt(0), []);
  assert.equal(await findAt(undefined), []);
});

test.run();
