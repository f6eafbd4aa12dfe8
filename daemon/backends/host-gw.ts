/** flannel's host-gw backend: plain routes between hosts of one network, no tunnel. */

import type { HostGatewayBackend } from '../../cluster/network-config.ts';
import type { Backend } from './backend.ts';

export const hostGateway: Backend<HostGatewayBackend> = {
  name: 'host-gw',
  outer: () => undefined,
};
