/** The corpus: configurations, valid and not, with the calls made with each. Written by families; some cases are drawn. */

import { attachments, requests } from './corpus/attachments.ts';
import { bridges, filters, layerTwo, presentBridges } from './corpus/bridges.ts';
import type { Case } from './corpus/case.ts';
import { drawn } from './corpus/drawn.ts';
import { Family } from './corpus/family.ts';
import { gateways } from './corpus/gateways.ts';
import { protocol } from './corpus/protocol.ts';
import { bounds, rangeForms, subnets } from './corpus/ranges.ts';
import { requested } from './corpus/requested.ts';
import { routesAndDns } from './corpus/routes-and-dns.ts';
import { store } from './corpus/store.ts';

/** The names are part of the seeds. */
const families: Readonly<Record<string, (family: Family) => void>> = {
  ...{ subnets, bounds, rangeForms, requested, routesAndDns, store, protocol },
  ...{ gateways, bridges, filters, layerTwo, presentBridges, requests, attachments, drawn },
};

function collect(): readonly Case[] {
  const cases = Object.entries(families).flatMap(([name, fill]) => {
    const family = new Family(name);
    fill(family);
    return family.cases;
  });
  // The slow ones first, so that the lanes end together: an IPv6 address costs the reference two seconds.
  const isSlow = ({ program, configuration }: Case) =>
    program === 'main' && JSON.stringify(configuration).includes('fd00:');
  return cases.sort((a, b) => Number(isSlow(b)) - Number(isSlow(a)));
}

let cases: readonly Case[] | undefined;

export function corpus(): readonly Case[] {
  cases ??= collect();
  return cases;
}
