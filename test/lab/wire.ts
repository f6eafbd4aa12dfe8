/** A TCP connection's way to a port of this machine, that a test may make slow, or cut. */

import { connect, createServer, type Server, type Socket } from 'node:net';

export class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Delays all bytes by this time, in both directions. */
  delayMs = 0;
  #isCut = false;

  private constructor(targetPort: number) {
    this.#server = createServer((inside) => {
      if (this.#isCut) {
        inside.destroy();
        return;
      }
      const outside = connect(targetPort, '127.0.0.1');
      this.#join(inside, outside);
      this.#join(outside, inside);
    });
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on('data', (data) => {
      if (this.delayMs === 0) to.write(data);
      else setTimeout(() => to.write(data), this.delayMs);
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }

  /** A way to the port. The caller closes it. */
  static async open(targetPort: number): Promise<Wire> {
    const wire = new Wire(targetPort);
    await new Promise<void>((resolve) => wire.#server.listen(0, '127.0.0.1', resolve));
    return wire;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  /** Connections end, and new ones end at once. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#isCut = false;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
