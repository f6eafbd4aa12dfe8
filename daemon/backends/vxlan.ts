/** flannel's VXLAN backend: a device with one tunnel endpoint, and three entries a peer. */

import type { VxlanBackend } from '../../cluster/network-config.ts';
import type { Backend } from './backend.ts';

export const vxlan: Backend<VxlanBackend> = {
  name: 'vxlan',
  outer: ({ port, vni }) => ({ ipProtocol: 17, udpPort: port, vni }),
};
