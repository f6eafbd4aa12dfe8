/** The probes' parts, built from the node's parts that they read. */

import { EchoSocket } from '../../linux/echo-socket.ts';
import type { Sys } from '../../linux/sys.ts';
import type { Family } from '../../net/address.ts';
import { backends } from '../backends/map.ts';
import type { Membership } from '../membership/membership.ts';
import type { Logger } from '../report/log.ts';
import { PathHealth, type ProbedNetwork } from './path-health.ts';
import { Survey } from './survey.ts';
import type { ProbedPeer } from './targets.ts';

export interface ProbesOptions {
  readonly sys: Sys;
  readonly membership: Pick<Membership, 'view'>;
  readonly dataPath: {
    readonly state:
      | {
          readonly external: { readonly name: string };
          readonly mtuBytes: number;
          readonly peers: readonly ProbedPeer[];
        }
      | undefined;
  };
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  readonly now: () => number;
  readonly time: () => number;
  readonly roundMs?: number | undefined;
}

export interface Probes {
  readonly health: PathHealth;
  readonly survey: Survey;
}

export function openProbes(options: ProbesOptions): Probes {
  const { sys, membership, dataPath } = options;
  const randomBytes = (count: number): Uint8Array => {
    const buffer = new ArrayBuffer(count);
    sys.getrandom(buffer, 0, count);
    return new Uint8Array(buffer);
  };
  const randomNumber = (): number => new DataView(randomBytes(2).buffer as ArrayBuffer).getUint16(0);
  const network = (): (ProbedNetwork & { readonly mtuBytes: number }) | undefined => {
    const { view } = membership;
    const { state } = dataPath;
    const backend = view && backends.get(view.backend.type);
    if (!view || !state || !backend || view.takenBy) return undefined;
    return { own: view.own.subnets, backend, peers: state.peers, mtuBytes: state.mtuBytes };
  };
  const device = (family: Family): string | undefined => {
    const { view } = membership;
    const backend = view && backends.get(view.backend.type);
    return view && backend ? (backend.deviceName(view.backend, family) ?? dataPath.state?.external.name) : undefined;
  };
  const health = new PathHealth({
    ...options,
    network,
    randomBytes,
    open: (family, source) => new EchoSocket(sys, { family, source, identifier: randomNumber() }),
  });
  const identifiers = new WeakMap<object, number>();
  const survey = new Survey({
    network,
    device,
    randomBytes,
    suspects: () => health.suspects,
    open(family, rest) {
      const identifier = randomNumber();
      const socket = new EchoSocket(sys, { family, identifier, ...rest });
      if (socket.isRaw) identifiers.set(socket, identifier);
      return socket;
    },
    witness(family, name, main) {
      const identifier = identifiers.get(main);
      if (identifier === undefined) return undefined;
      try {
        return new EchoSocket(sys, { family, identifier, device: name });
      } catch {
        // The device may be gone. The survey says less then.
        return undefined;
      }
    },
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  });
  return { health, survey };
}
