/**
 * Waits for IPv6 duplicate address detection (RFC 4862, section 5.4), if the configuration asks for it by `enabledad`.
 */

import { dumpAddresses, type InterfaceAddress, ifa } from '../linux/netlink/address.ts';
import { openEvents, rtnlgrp } from '../linux/netlink/events.ts';
import { getLinkIndex } from '../linux/netlink/link.ts';
import { clock } from '../linux/sys.ts';
import { formatPrefix } from '../net/prefix.ts';
import type { Workplace } from './attachment-part.ts';
import type { AttachmentPlan } from './plan.ts';
import { CniError, errorCodes } from './spec/errors.ts';

/** The limit of the reference plugins. The kernel takes some 2 s. */
const deadlineMs = 10_000;

const texts = (addresses: readonly InterfaceAddress[]): string =>
  addresses.map(({ prefix }) => formatPrefix(prefix)).join(', ');

/**
 * Waits until no address of the container's interface is tentative any more.
 * @throws CniError 115 if another host has one of them, 114 if it takes too long
 */
export function afterAttach(
  { sys, request, settings, namespaces, connections }: Workplace,
  plan: AttachmentPlan,
): void {
  if (!settings.duplicateDetection || !plan.container.up) return;
  const connection = connections.container;
  const index = connection.get(getLinkIndex(request.ifname));
  if (index === undefined) return;
  const now = () => sys.clock_gettime(clock.CLOCK_MONOTONIC);
  const deadline = now() + deadlineMs;
  const events = openEvents(sys, [rtnlgrp.RTNLGRP_IPV6_IFADDR], { namespace: namespaces.container });
  try {
    for (;;) {
      // Looks while events are received, so that no change is missed.
      const addresses = connection.dump(dumpAddresses({ index, family: 6 }));
      const duplicate = addresses.filter(({ flags }) => flags & ifa.IFA_F_DADFAILED);
      if (duplicate.length > 0) {
        throw new CniError(
          errorCodes.duplicateAddress,
          `Another host of the network has ${texts(duplicate)} already; see who it is, or give out other addresses`,
        );
      }
      const tentative = addresses.filter(({ flags }) => flags & ifa.IFA_F_TENTATIVE);
      if (tentative.length === 0) return;
      const left = deadline - now();
      if (left <= 0 || sys.poll(events.fd, Math.ceil(left)) === 0) {
        throw new CniError(
          errorCodes.linkNotUp,
          `The kernel did not find out within ${deadlineMs / 1000} s whether ${texts(tentative)} is free`,
        );
      }
      events.receiveEvents();
    }
  } finally {
    events.close();
  }
}
