/**
 * Decides whether weftd's rules in another program's base chain are right, and where they belong. nf_tables and the older
 * tables share it: only reading and writing of rules differ.
 *
 * The rules belong before the first rule that drops the cluster's ordinary packets, else at the end. They may stand further
 * in front: weftd does not move them back.
 */

import { type Chains, findHindrance, type SamplePacket, type WalkRule } from './packet-walk.ts';

/** An actual base chain. `R` is a rule in its table's form. */
export interface ForwardChainState<R> {
  readonly rules: readonly R[];
  readonly policy: 'accept' | 'drop';
  readonly isOwn: (rule: R) => boolean;
  readonly read: (rule: R) => WalkRule;
  readonly chains: Chains;
  /** Packets that must pass. */
  readonly packets: readonly SamplePacket[];
  /** Whether weftd's rules in the chain, in their order, are the right ones. */
  readonly isRight: (own: readonly R[]) => boolean;
  /** Whether the chain that they jump to is right; true if there is none. */
  readonly isTargetRight: boolean;
  /** Whether they must be there even if nothing is dropped. */
  readonly isPermanent: boolean;
}

/** The difference from the desired chain. */
export type ForwardCause =
  | { readonly kind: 'absent' | 'changed' | 'policy' }
  /** The rule at this index of the chain, without weftd's, drops packets. */
  | { readonly kind: 'rule'; readonly at: number };

export interface ForwardRepair<R> {
  readonly cause: ForwardCause;
  /** weftd's existing rules. */
  readonly own: readonly R[];
  /** Whether to insert them again. */
  readonly isBaseWrong: boolean;
  /** Others' rules, and the index among them before which weftd's belong. */
  readonly others: readonly R[];
  readonly place: number;
}

/** Undefined if nothing is to be done. */
export function planRepair<R>(state: ForwardChainState<R>): ForwardRepair<R> | undefined {
  const { rules, policy, isOwn, read, chains, packets, isRight, isTargetRight, isPermanent } = state;
  const own = rules.filter(isOwn);
  const others = rules.filter((each) => !own.includes(each));
  const stoppedAt = findHindrance(others.map(read), policy, packets, chains)?.at;
  if (own.length === 0 && stoppedAt === undefined && !isPermanent) return undefined;
  const dropping = stoppedAt === undefined ? undefined : others[stoppedAt];
  const last = own.at(-1);
  const isTooLate = dropping !== undefined && last !== undefined && rules.indexOf(dropping) < rules.indexOf(last);
  const isBaseWrong = isTooLate || !isRight(own);
  if (!isBaseWrong && isTargetRight) return undefined;
  return { cause: causeOf(), own, isBaseWrong, others, place: stoppedAt ?? others.length };

  function causeOf(): ForwardCause {
    if (own.length > 0 && !isTooLate) return { kind: 'changed' };
    if (stoppedAt === undefined) return { kind: 'absent' };
    return dropping === undefined ? { kind: 'policy' } : { kind: 'rule', at: stoppedAt };
  }
}

/**
 * @param rules how the chain's rules are named: `of "ip filter FORWARD"`
 * @param policy how its policy is named
 */
export function formatCause(cause: ForwardCause, rules: string, policy: string): string {
  switch (cause.kind) {
    case 'absent':
      return 'they are not there';
    case 'changed':
      return 'they were changed';
    case 'policy':
      return `${policy} is drop`;
    case 'rule':
      return `rule ${cause.at + 1} ${rules} drops the cluster's packets`;
  }
}
