/**
 * Whether an attachment is dead. It is dead only if everything says so: its interface is not on the host, no namespace of
 * this machine has one of its addresses, the path of its namespace leads nowhere, its process has ended, and no runtime knows
 * the container. Anything that cannot be asked keeps it. Pure.
 */

/** An attachment, and what was found of it. */
export interface Sighting {
  readonly network: string;
  readonly containerId: string;
  /** '' in a reservation that names none. */
  readonly ifname: string;
  readonly addresses: readonly string[];
  /** The host's end of the pair; undefined: it is not there. */
  readonly hostEnd: string | undefined;
  /** The first of its addresses that a namespace has. */
  readonly liveAddress: string | undefined;
  /** The path that the runtime gave for its namespace, if a namespace is there. */
  readonly livePath: string | undefined;
  /** For an interface of `weftctl attach`: whether its process runs; undefined for others. */
  readonly processRuns: boolean | undefined;
  /** The runtime that knows the container. */
  readonly knownTo: string | undefined;
  /** Whether there is a list of plugins that removes it. */
  readonly isRemovable: boolean;
  /** Tells its reservations and its cached result from later ones of the same names. */
  readonly mark: string;
}

export type Verdict =
  | { readonly state: 'alive' }
  | { readonly state: 'kept'; readonly why: string }
  | { readonly state: 'dead'; readonly why: string };

export interface Surroundings {
  /** Runtimes that were asked. */
  readonly asked: readonly string[];
  /** What could not be asked or seen, one line each. */
  readonly unknown: readonly string[];
}

export function judge(sighting: Sighting, { asked, unknown }: Surroundings): Verdict {
  const { hostEnd, liveAddress, livePath, processRuns, knownTo, ifname, isRemovable, network } = sighting;
  if (hostEnd !== undefined || liveAddress !== undefined || processRuns) return { state: 'alive' };
  // The namespace is there without the interface: somebody has removed it, or the ADD is on its way.
  if (livePath !== undefined) return { state: 'kept', why: `its namespace "${livePath}" is there` };
  if (knownTo !== undefined && processRuns === undefined) {
    return { state: 'kept', why: `${knownTo} knows the container; it frees the address when it removes it` };
  }
  const [first] = unknown;
  if (first !== undefined) return { state: 'kept', why: first };
  if (ifname === '') return { state: 'kept', why: 'its reservation names no interface' };
  if (!isRemovable) return { state: 'kept', why: `no configuration of the network "${network}" is there` };
  if (processRuns === false) return { state: 'dead', why: 'its process has ended' };
  const runtimes = asked.length === 0 ? 'no runtime is here' : `unknown to ${asked.join(', ')}`;
  return { state: 'dead', why: `no namespace has it; ${runtimes}` };
}

/** Those that were dead at both times, unchanged in between. */
export function deadTwice(before: readonly Sighting[], after: readonly Sighting[]): Sighting[] {
  const marks = new Map(before.map((sighting) => [keyOf(sighting), sighting.mark]));
  return after.filter((sighting) => marks.get(keyOf(sighting)) === sighting.mark);
}

export const keyOf = ({ network, containerId, ifname }: Sighting): string => `${network}/${containerId}/${ifname}`;
