/** The text of a node's liveness record, `<prefix>/nodes/<node>`. */

import { formatAddress, parseAddress } from '../../net/address.ts';
import { excerpt } from '../excerpt.ts';
import { LeaseFormatError } from '../lease.ts';
import { perFamily } from '../network-config.ts';
import type { NodeRecord } from '../store.ts';

const addressKeys = { 4: 'publicIP', 6: 'publicIPv6' } as const;

export const formatNodeRecord = (record: NodeRecord): string =>
  JSON.stringify({
    node: record.node,
    ...Object.fromEntries(
      ([4, 6] as const).flatMap((family) => {
        const address = record.publicAddresses[family];
        return address ? [[addressKeys[family], formatAddress(address)]] : [];
      }),
    ),
    backend: record.backendType,
    version: record.version,
    started: new Date(record.startedAtMs).toISOString(),
    health: record.health,
    ...(record.containers === undefined ? {} : { containers: record.containers }),
  });

/** @throws LeaseFormatError */
export function parseNodeRecord(text: string): NodeRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new LeaseFormatError('its value is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LeaseFormatError('its value is not a JSON object');
  }
  const object: Record<string, unknown> = { ...value };
  const textOf = (key: string): string => {
    const item = object[key];
    return typeof item === 'string' ? item : '';
  };
  const node = textOf('node');
  if (node === '') throw new LeaseFormatError('it has no node name');
  const startedAtMs = Date.parse(textOf('started'));
  if (Number.isNaN(startedAtMs))
    throw new LeaseFormatError(`"started" is "${excerpt(textOf('started'))}", which is not a time`);
  const { containers } = object;
  return {
    node,
    version: textOf('version'),
    publicAddresses: perFamily((family) => {
      const address = parseAddress(textOf(addressKeys[family]));
      return address?.family === family ? address : undefined;
    }),
    backendType: textOf('backend'),
    startedAtMs,
    health: textOf('health'),
    ...(typeof containers === 'number' ? { containers } : {}),
  };
}
