/**
 * A TCP and UDP echo, to be run inside of network namespaces: `echo.ts serve PORT` prints "ready" and answers on all
 * addresses, "who am I" with the asker's own; `echo.ts ask tcp|udp ADDRESS PORT TEXT` prints what came back, and fails
 * after two seconds without it.
 */

import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';

function answer(question: string | Buffer, from: string | undefined): string | Buffer {
  return question.toString() === 'who am I' ? (from ?? '').replace(/^::ffff:/, '') : question;
}

function serve(port: number): void {
  createServer((socket) => {
    socket.on('data', (data) => socket.write(answer(data, socket.remoteAddress)));
    socket.on('end', () => socket.end());
    socket.on('error', () => socket.destroy());
  }).listen(port, '::', () => {
    // `::` of a UDP socket takes IPv4, too, unless told otherwise, as TCP's does.
    const udp = createSocket({ type: 'udp6', ipv6Only: false });
    udp.on('message', (message, from) => udp.send(answer(message, from.address), from.port, from.address));
    udp.bind(port, '::', () => console.log('ready'));
  });
}

function ask(protocol: string, address: string, port: number, text: string): void {
  const answered = (data: Buffer): never => {
    console.log(data.toString());
    process.exit(0);
  };
  setTimeout(() => {
    console.error(`no answer by ${protocol} from ${address}`);
    process.exit(1);
  }, 2000);
  if (protocol === 'udp') {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    socket.on('message', answered);
    socket.send(text, port, address);
    return;
  }
  const socket = connect(port, address, () => socket.write(text));
  socket.on('data', answered);
  socket.on('error', (error) => {
    console.error(error.message);
    process.exit(1);
  });
}

const [, , verb, ...words] = process.argv;
if (verb === 'serve') serve(Number(words[0]));
else ask(words[0]!, words[1]!, Number(words[2]), words[3]!);
