/** The intended differences between Weft and the reference, with their reasons. Any other difference is a fault. */

import type { Aspect, Difference } from './comparison.ts';

export interface Exception {
  readonly name: string;
  readonly reason: string;
  readonly covers: (difference: Difference) => boolean;
  /** Later steps of the same case cannot be compared. */
  readonly ends?: boolean;
  /** Whether the reference does so depends on the moment. */
  readonly byChance?: boolean;
  /** Only this reference does so: Debian 12's (1.1.1), or the newest (1.10.0). */
  readonly only?: 'older' | 'newest';
}

const weftSucceeds = ({ aspect, line }: Difference): boolean => aspect === 'status' && line === 'fails';
const weftFails = ({ aspect, line }: Difference): boolean => aspect === 'status' && line === 'succeeds';
const isStep = ({ step }: Difference, ...commands: string[]): boolean => commands.includes(step.command);
const bothFail = ({ reference, weft }: Difference): boolean => reference.status !== 0 && weft.status !== 0;

const textOf = ({ document }: Difference['weft']): string => `${document?.msg} ${document?.details}`;
const referenceSays = ({ reference }: Difference, text: RegExp): boolean => text.test(textOf(reference));
const weftSays = ({ weft }: Difference, text: RegExp): boolean => text.test(textOf(weft));
const isLine = ({ line, aspect }: Difference, of: Aspect, text: RegExp): boolean => aspect === of && text.test(line);
const isNamed = ({ definition }: Difference, name: RegExp): boolean => name.test(definition.name);
const configured = ({ definition: { configuration } }: Difference, text: RegExp): boolean =>
  text.test(typeof configuration === 'string' ? configuration : JSON.stringify(configuration));

export const exceptions: readonly Exception[] = [
  // The protocol.
  {
    name: 'dns is left out when empty',
    reason: 'The specification has `dns` as optional since 1.0.0; an empty one says nothing',
    covers: (difference) => isLine(difference, 'result', /^- dns = \{\}$/),
  },
  {
    name: 'DEL whatever the configuration has become',
    reason: 'DEL frees what an attachment holds, also where its ranges or other keys have become invalid since',
    covers: (difference) => isStep(difference, 'DEL') && weftSucceeds(difference),
  },
  {
    name: 'version 1.1.0',
    only: 'older',
    reason: 'This reference ends at 1.0.0',
    covers: (difference) => weftSucceeds(difference) && referenceSays(difference, /config is "1\.1\.0"/),
  },
  {
    name: 'a key in two spellings',
    reason: 'The exact spelling counts; for the reference, whichever comes last',
    ends: true,
    covers: (difference) => isNamed(difference, /^protocol: keys in two cases/),
  },
  {
    name: 'case is folded in ASCII',
    reason: 'Go takes the Kelvin sign for a k and a long s for an s; no runtime writes so',
    covers: (difference) => isNamed(difference, /^protocol: Kelvin sign/),
  },

  // The store.
  {
    name: 'no store is made by who only looks or removes',
    reason: 'A DEL or CHECK of a network that never gave out an address leaves no folder behind',
    covers: (difference) => isStep(difference, 'DEL', 'CHECK') && isLine(difference, 'store', /^- \S+\/lock ""$/),
  },
  {
    name: 'an empty reservation',
    reason: 'What a failed write left belongs to nobody: it is removed, not kept for ever',
    ends: true,
    covers: (difference) => isNamed(difference, /^ipam: store: an empty record/),
  },
  {
    name: 'a foreign file in the store',
    reason: 'Only files named by an address are reservations; others are left alone',
    ends: true,
    covers: (difference) => isNamed(difference, /^ipam: store: a foreign file with our id/),
  },
  {
    name: 'line ends in the store',
    reason: 'A record or a last address that somebody edited by hand, with a line feed, is understood',
    ends: true,
    covers: (difference) => isNamed(difference, /^ipam: store: (a record with LF|last with a newline)/),
  },
  {
    name: 'an address outside the ranges is held all the same',
    reason:
      'A container that holds an address of ranges that have changed since has an attachment: ADD is a repeated one',
    covers: (difference) => isNamed(difference, /^ipam: store: an address out of range/) && weftFails(difference),
  },

  // Ranges and requests.
  {
    name: 'networks that begin with zeros',
    only: 'older',
    reason: 'The reference shortens the addresses of ::/n and 0.0.0.0/n and then finds none',
    covers: (difference) => weftSucceeds(difference) && referenceSays(difference, /range set: \?01-/),
  },
  {
    name: 'a range that ends before it begins',
    only: 'older',
    reason: 'A start after the end is refused, also where the end is the default one',
    covers: (difference) => weftFails(difference) && weftSays(difference, /which is after its end/),
  },
  {
    name: 'a gateway of another family',
    only: 'older',
    reason: 'A bad gateway is refused: no container could use this one',
    covers: (difference) => weftFails(difference) && weftSays(difference, /is not of the same family as the subnet/),
  },
  {
    name: 'a gateway outside',
    only: 'older',
    reason: 'No container could reach it; refused as in newer releases (1.10)',
    covers: (difference) => weftFails(difference) && weftSays(difference, /\.gateway" .* is not in the subnet/),
  },
  {
    name: 'lists and blanks in requested addresses',
    reason:
      'IP= takes a list, as for the plugin `static` and in newer host-local; blanks around an address mean nothing',
    ends: true,
    covers: (difference) =>
      (difference.step.args?.includes(',') === true ||
        configured(difference, /"ips":\[" /) ||
        / /.test(difference.step.args ?? '')) &&
      (weftSucceeds(difference) || bothFail(difference)) &&
      referenceSays(difference, /invalid IP address/),
  },
  {
    name: 'MAC in CNI_ARGS',
    reason: 'Both plugins know IP and MAC; the reference’s pair refuses either alone, each not knowing the other’s',
    covers: (difference) => weftSucceeds(difference) && referenceSays(difference, /unknown args \["(MAC|IP)=/),
  },
  {
    name: 'a route without a destination',
    reason: 'It is refused with the key that lacks, not handed on as a route that no kernel takes',
    covers: (difference) =>
      weftFails(difference) && weftSays(difference, /routes\[\d\]" (needs a "dst"|must be an object)/),
  },
  {
    name: 'keys of routes that this reference does not know',
    reason: 'mtu, advmss, priority, table and scope came with 1.1.0: passed on, applied, and of the right type',
    covers: (difference) =>
      isLine(difference, 'result', /^\+ routes\[\d\]\.(mtu|advmss) = \d+$/) ||
      (isLine(difference, 'container', /^\+ route .* metrics \{|^- route 10\.0\.0\.0\/8 /) &&
        configured(difference, /"advmss"/)) ||
      (weftFails(difference) && weftSays(difference, /routes\[\d\]\.mtu" must be a whole number/)),
  },

  {
    name: 'a prefix length with zeros before it',
    reason: 'As with the octets of an address: what could be meant as an octal number is refused',
    covers: (difference) => weftFails(difference) && weftSays(difference, /\/024", which is not a subnet/),
  },
  {
    name: '% in an interface’s name',
    reason: 'The kernel makes another name of it, so it is refused before anything is done',
    covers: (difference) => weftFails(difference) && weftSays(difference, /CNI_IFNAME "a%d"/),
  },

  // The bridge.
  {
    name: 'what the reference leaves of a failed ADD',
    reason: 'A failure at any step takes the address, the links and the rules back; the bridge is the host’s and stays',
    ends: true,
    covers: (difference) =>
      isStep(difference, 'ADD') &&
      bothFail(difference) &&
      (isLine(difference, 'container', /^- /) ||
        isLine(difference, 'store', /^- /) ||
        isLine(difference, 'host', /^- (link|port|bridge|address|route|forwarding)/) ||
        isLine(difference, 'host', /^\+ (link br0 bridge|bridge br0|address br0|route \S+ dev br0|forwarding)/)),
  },
  {
    name: 'dns that says nothing',
    reason: 'The configuration’s dns takes the place of the IPAM’s where it says something, as in newer releases',
    covers: (difference) => isLine(difference, 'result', /^\+ dns\./) && configured(difference, /resolvConf/),
  },
  {
    name: 'CHECK of a route without a gateway',
    only: 'older',
    reason:
      'The IPAM’s result leaves the gateway to the main plugin; this reference then looks for a route without one',
    covers: (difference) =>
      isStep(difference, 'CHECK') &&
      weftSucceeds(difference) &&
      referenceSays(difference, /^Expected Route .* GW:<nil>\} not found/),
  },
  {
    name: 'isDefaultGateway and a default route of the IPAM',
    reason: 'The default route is not added a second time',
    covers: (difference) =>
      weftSucceeds(difference) && referenceSays(difference, /failed to add route '\{(0\.0\.0\.0|::) .*file exists/),
  },
  {
    name: 'a route without a gateway has scope link',
    reason: 'As `ip route` makes it; with the scope of the reference nothing could be routed by a gateway behind it',
    covers: (difference) =>
      isLine(difference, 'container', /^[-+] route \S+ dev \S+ table main proto boot scope (global|link)$/),
  },
  {
    name: 'two IPv4 sets and a gateway',
    reason: 'The bridge gets a gateway address for each; the reference fails at the second, or forces the first away',
    ends: true,
    covers: (difference) =>
      isNamed(difference, /two v4 sets/) &&
      ((weftSucceeds(difference) && referenceSays(difference, /already has an IP address different/)) ||
        isLine(difference, 'host', /^[-+] (address|route) /)),
  },
  {
    name: 'L2: CHECK',
    only: 'older',
    reason: 'CHECK of an attachment without addresses succeeds where all is well; the reference’s always fails',
    covers: (difference) =>
      isStep(difference, 'CHECK') && weftSucceeds(difference) && isNamed(difference, /L2|ipam\.type null/),
  },
  {
    name: 'the link is up',
    byChance: true,
    reason: 'When ADD returns the container’s link is operational; the reference does not always wait for it',
    covers: (difference) =>
      isLine(difference, 'container', /^(-.* UP,LOWER_UP DOWN |\+.* UP,LOWER_UP UP )/) &&
      / link eth0 /.test(difference.line),
  },
  {
    name: 'DEL without a namespace',
    reason: 'The link goes with the address: Weft finds it by its name on the host',
    ends: true,
    covers: (difference) =>
      isStep(difference, 'DEL') &&
      difference.step.netns === '' &&
      (isLine(difference, 'rules', /^- /) ||
        isLine(difference, 'container', /^- /) ||
        isLine(difference, 'host', /^- |^\+ link br0/)),
  },
  {
    name: 'a requested address and a duplicate',
    reason: 'A container that holds an address gets no second one by asking for it by name',
    covers: (difference) =>
      weftFails(difference) && difference.weft.document?.code === 102 && /IP=/.test(difference.step.args ?? ''),
  },
  {
    name: 'CHECK compares gateways',
    reason: 'A route that goes by another gateway than the result says is not the one that was set',
    covers: (difference) => weftFails(difference) && isNamed(difference, /CHECK of a route by another gateway/),
  },
  {
    name: 'interfaces tell their MTU',
    reason: 'Results of 1.0.0 and later may have it',
    covers: (difference) =>
      configured(difference, /"cniVersion":"1\.0\.0"/) &&
      isLine(difference, 'result', /^\+ interfaces\[[12]\]\.mtu = \d+$/),
  },
  {
    name: 'an MTU below 0',
    reason: 'It is refused, not taken for none',
    covers: (difference) => weftFails(difference) && weftSays(difference, /"mtu" must be 0 or more/),
  },
  {
    name: 'an empty name of the bridge',
    reason: 'It means the default one',
    covers: (difference) => weftSucceeds(difference) && referenceSays(difference, /failed to create bridge ""/),
  },
  {
    name: 'the address is looked for before the bridge is',
    reason: 'Where the bridge or a link then fails, the address is released; the last one given out stays on record',
    ends: true,
    covers: (difference) =>
      isStep(difference, 'ADD') &&
      bothFail(difference) &&
      isLine(difference, 'store', /^\+ net\/(last_reserved_ip\.\d "|lock "")|^- net\/last_reserved_ip/),
  },
  {
    name: 'keys that this reference does not know',
    only: 'older',
    reason: 'disableContainerInterface and portIsolation came later',
    ends: true,
    covers: (difference) =>
      (weftFails(difference) && weftSays(difference, /"disableContainerInterface" and "ipam" exclude/)) ||
      (isLine(difference, 'host', /^[-+] port /) && configured(difference, /"portIsolation":true/)),
  },
  {
    name: 'CHECK is about the attachment',
    reason:
      'That the bridge has another MAC by now, that somebody made it promiscuous, or that the result does not name the ' +
      'host’s end, takes nothing from the container',
    covers: (difference) =>
      isStep(difference, 'CHECK') &&
      weftSucceeds(difference) &&
      (referenceSays(difference, /configured Promisc Mode false doesn't match/) ||
        isNamed(difference, /CHECK of (another MAC of the bridge|an address without host end)/)),
  },
  {
    name: 'the own namespace',
    only: 'older',
    reason: 'Refused before anything is reserved, as newer releases do',
    ends: true,
    covers: (difference) =>
      weftFails(difference) && difference.weft.document?.code === 8 && isNamed(difference, /the own namespace$/),
  },
  {
    name: 'the IPAM is part of the program',
    reason: 'It needs no search in CNI_PATH',
    covers: (difference) => weftSucceeds(difference) && referenceSays(difference, /failed to find plugin "host-local"/),
  },
  {
    name: 'masquerade by nf_tables',
    reason:
      'It is the default: no command is started for it. Those who name iptables get the very rules of the reference',
    covers: (difference) =>
      difference.aspect === 'rules' &&
      configured(difference, /"ipMasq":true/) &&
      !configured(difference, /"ipMasqBackend":"iptables"/),
  },
  {
    name: 'an empty ipMasqBackend',
    only: 'newest',
    reason: 'An empty text says nothing, as if the key was left out',
    covers: (difference) => weftSucceeds(difference) && referenceSays(difference, /unknown ipmasq backend ""/),
  },
  {
    name: 'ipMasqBackend is looked at',
    reason: 'This reference does not know the key; one that names no back end is refused, as in newer releases',
    covers: (difference) => weftFails(difference) && weftSays(difference, /"ipMasqBackend"/),
  },
];
