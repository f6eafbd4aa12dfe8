import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { udpInodes, udpPortHolder } from '../../../../daemon/host/socket-holder.ts';
import { sys } from '../../../../linux/sys-bun.ts';

const test = suite('daemon/host/socket-holder');

test('the sockets on a port', () => {
  const table = [
    '   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops',
    '  318: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0000000000000000 0',
    '  319: 0100007F:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0',
    '  320: 0100007F:2119 00000000:2118 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0',
    '',
  ].join('\n');
  assert.equal(udpInodes(table, 8472), [0, 4711]);
  assert.equal(udpInodes(table, 8474), []);
});

test('the process that holds a port', async () => {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  assert.match(udpPortHolder(sys, port)!, new RegExp(`^process ${process.pid} \\(".+"\\)$`));
  socket.close();
});

test.run();
