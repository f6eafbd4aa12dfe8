/** Proposals of an identity, for tests that need the identity alone. */

import type { NetworkConfig } from '../../../../cluster/network-config.ts';
import type { Proposal } from '../../../../daemon/membership/identity.ts';
import type { Identity } from '../../../../daemon/membership/view.ts';

export const proposalOf = (identity: Identity, config: NetworkConfig): Proposal => ({
  identity,
  config,
  host: { links: [], addresses: [], routes: [] },
  own: undefined,
  found: {
    external: {
      index: 2,
      name: 'eth0',
      mtuBytes: 1500,
      addresses: identity.publicAddresses,
      publicAddresses: identity.publicAddresses,
    },
    problem: undefined,
  },
  told: undefined,
  devices: {},
});
