/** The keys of a configuration that `weft` reads, for `foldKeys`: bridge's own, and the IPAM's. */

import { ipamKeys } from '../ipam/keys.ts';
import { dnsKeys } from './spec/results.ts';

const none = {};

export const weftKeys = {
  ...ipamKeys,
  bridge: none,
  isGateway: none,
  isDefaultGateway: none,
  forceAddress: none,
  ipMasq: none,
  ipMasqBackend: none,
  mtu: none,
  hairpinMode: none,
  promiscMode: none,
  vlan: none,
  vlanTrunk: { id: none, minID: none, maxID: none },
  preserveDefaultVlan: none,
  macspoofchk: none,
  enabledad: none,
  disableContainerInterface: none,
  portIsolation: none,
  dns: dnsKeys,
};
