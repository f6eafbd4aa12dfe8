/** A backend: how packets travel from host to host. */

import type { HostGatewayBackend, VxlanBackend } from '../../cluster/network-config.ts';

/** The backends that weftd runs itself. */
export type OwnBackend = VxlanBackend | HostGatewayBackend;
