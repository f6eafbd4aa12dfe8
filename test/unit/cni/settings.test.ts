import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { weftKeys } from '../../../cni/keys.ts';
import { readSettings, requestedMac } from '../../../cni/settings.ts';
import { foldKeys, type KeyTable } from '../../../cni/spec/keys.ts';
import type { CniRequest, JsonObject } from '../../../cni/spec/request.ts';
import weftSchema from '../../../cni/weft.schema.json';
import { checkIpamConfiguration } from '../../../ipam/configuration.ts';
import ipamSchema from '../../../ipam/ipam.schema.json';
import { ipamKeys } from '../../../ipam/keys.ts';
import { formatMac } from '../../../net/mac.ts';
import { refused } from './refused.ts';

const test = suite('cni/settings');

const overlay = { ipam: { type: 'weft-ipam' } };
const ranged = { ipam: { type: 'weft-ipam', subnet: '10.0.0.0/24' } };

test('an overlay has its own defaults, and a configuration with ranges has those of bridge', () => {
  const { overlay: isOverlay, isGateway, isDefaultGateway, hairpin, bridge } = readSettings(overlay);
  assert.equal([isOverlay, isGateway, isDefaultGateway, hairpin, bridge], [true, true, true, true, 'cni0']);
  for (const configuration of [
    ranged,
    { ipam: { type: 'host-local' } },
    { ...overlay, runtimeConfig: { ipRanges: [[{ subnet: '10.0.0.0/24' }]] } },
  ]) {
    const plain = readSettings(configuration);
    assert.equal([plain.overlay, plain.isGateway, plain.isDefaultGateway, plain.hairpin], [false, false, false, false]);
  }
});

test('written keys override the defaults', () => {
  const given = readSettings({
    ...overlay,
    isDefaultGateway: false,
    isGateway: false,
    hairpinMode: false,
    bridge: 'br1',
  });
  assert.equal([given.isGateway, given.isDefaultGateway, given.hairpin, given.bridge], [false, false, false, 'br1']);
  assert.is(readSettings({ ...overlay, promiscMode: true }).hairpin, false);
  assert.is(readSettings({ ...ranged, isDefaultGateway: true }).isGateway, true);
  assert.is(readSettings({ mtu: 0 }).mtuBytes, undefined);
  assert.is(readSettings({ mtu: 9000 }).mtuBytes, 9000);
});

test('without IPAM, the attachment is layer 2', () => {
  assert.is(readSettings({}).ipamType, '');
  assert.is(readSettings({ ipam: {} }).ipamType, '');
  assert.is(readSettings({ disableContainerInterface: true }).interfaceDisabled, true);
});

test('keys that exclude each other or are out of range give one clear error', () => {
  refused(() => readSettings({ hairpinMode: true, promiscMode: true }), 7, /"hairpinMode" and "promiscMode"/);
  refused(
    () => readSettings({ ...ranged, disableContainerInterface: true }),
    7,
    /"disableContainerInterface" and "ipam"/,
  );
  refused(() => readSettings({ bridge: 'a/b' }), 7, /"bridge" "a\/b"/);
  refused(() => readSettings({ mtu: 20 }), 7, /"mtu" is 20/);
  refused(() => readSettings({ mtu: '1500' }), 7, /"mtu" must be a whole number, but is "1500"/);
  refused(() => readSettings({ mtu: 70000 }), 7, /"mtu" must be 65535 or less, but is 70000/);
  refused(() => readSettings({ isGateway: 'yes' }), 7, /"isGateway" must be true or false, but is "yes"/);
  refused(() => readSettings({ vlan: 5000 }), 7, /"vlan" must be 4094 or less/);
  refused(() => readSettings({ dns: { search: ['a', 1] } }), 7, /"dns\.search\[1\]" must be a string, but is 1/);
});

test('masquerading uses nf_tables unless the configuration names iptables', () => {
  const backend = (keys: JsonObject) => readSettings({ ...ranged, ...keys }).masquerade;
  assert.equal(
    [backend({}), backend({ ipMasqBackend: 'iptables' }), backend({ ipMasq: true, ipMasqBackend: '' })],
    [undefined, undefined, 'nftables'],
  );
  assert.is(backend({ ipMasq: true, ipMasqBackend: 'iptables' }), 'iptables');
  refused(() => backend({ ipMasq: true, ipMasqBackend: 'pf' }), 7, /"ipMasqBackend" is "pf"/);
});

test('vlan and vlanTrunk give the VLANs of a port', () => {
  const vlans = (keys: JsonObject) => readSettings(keys).vlans;
  assert.is(vlans({ vlan: 0, preserveDefaultVlan: true }), undefined);
  assert.equal(vlans({ vlan: 5 }), { native: 5, tagged: [], keepsDefault: false });
  assert.equal(vlans({ vlan: 5, preserveDefaultVlan: true }), { native: 5, tagged: [], keepsDefault: true });
  assert.equal(vlans({ vlanTrunk: [] }), { native: undefined, tagged: [], keepsDefault: true });
  assert.equal(vlans({ vlan: 5, vlanTrunk: [{ id: 9, minID: 4, maxID: 6 }, { id: 9 }] }), {
    native: 5,
    tagged: [4, 6, 9],
    keepsDefault: false,
  });
  refused(() => vlans({ vlanTrunk: [{ id: 9 }, { minID: 3 }] }), 7, /"vlanTrunk\[1\]" has .* its "maxID" is missing/);
  refused(() => vlans({ vlanTrunk: [{ maxID: 3 }] }), 7, /"vlanTrunk\[0\]" has a "maxID", and its "minID" is missing/);
  refused(() => vlans({ vlanTrunk: [{ minID: 3, maxID: 2 }] }), 7, /above its maxID 2/);
  refused(() => vlans({ vlanTrunk: [{ id: 4095 }] }), 7, /"vlanTrunk\[0\]\.id" must be 4094 or less/);
  refused(() => vlans({ vlan: 4000, bridge: 'a-long-bridge', isGateway: true }), 7, /"a-long-bridge\.4000"/);
});

test('the ipam section is read with its defaults', () => {
  checkIpamConfiguration(ranged as JsonObject);
  refused(() => checkIpamConfiguration({}), 7, /no "ipam" section/);
  const check = (ipam: JsonObject) => () => checkIpamConfiguration({ ipam });
  refused(check({ ranges: [{ subnet: 'x' }] }), 7, /"ipam\.ranges\[0\]" must be a list/);
  refused(check({ ranges: [[{}]] }), 7, /"ipam\.ranges\[0\]\[0\]" needs a "subnet"/);
  refused(check({ routes: [{ dst: '0.0.0.0/0', mtu: -1 }] }), 7, /"ipam\.routes\[0\]\.mtu" must be 0 or more/);
  refused(check({ dataDir: 1 }), 7, /"ipam\.dataDir" must be a string/);
});

test('the MAC is taken from runtimeConfig, then args.cni, then CNI_ARGS', () => {
  const mac = (configuration: JsonObject, args = '') => {
    const found = requestedMac({ configuration, args } as CniRequest);
    return found && formatMac(found);
  };
  const [a, b, c] = ['02:00:00:00:00:0a', '02:00:00:00:00:0b', '02:00:00:00:00:0c'];
  const all = { runtimeConfig: { mac: a }, args: { cni: { mac: b } } };
  assert.is(mac(all, `MAC=${c}`), a);
  assert.is(mac({ args: { cni: { mac: b } } }, `MAC=${c}`), b);
  assert.is(mac({}, `MAC=${c}`), c);
  assert.is(mac({}), undefined);
  refused(() => mac({}, 'MAC=x'), 4, /CNI_ARGS MAC is "x"/);
  refused(() => mac({ runtimeConfig: { mac: '01:00:00:00:00:00' } }), 7, /not a MAC that an interface can have/);
});

/** Each key of the schema is one that `foldKeys` knows: else it would be validated in one spelling only. */
function missingKeys(
  schema: { properties?: object; items?: object; $ref?: string },
  table: KeyTable,
  path = '',
): string[] {
  const missing: string[] = [];
  for (const [key, value] of Object.entries(schema.properties ?? {})) {
    if (!Object.hasOwn(table, key)) missing.push(`${path}${key}`);
    else missing.push(...missingKeys(value, table[key]!, `${path}${key}.`));
  }
  if (schema.items) missing.push(...missingKeys(schema.items, table, path));
  return missing;
}

test('the schemas and the tables of keys list the same keys', () => {
  assert.equal(missingKeys(weftSchema, weftKeys), []);
  assert.equal(missingKeys(ipamSchema, ipamKeys), []);
});

test('keys are recognised in any case', () => {
  const configuration = {
    BRIDGE: 'br9',
    IPAM: { Type: 'weft-ipam', Ranges: [[{ SUBNET: '10.0.0.0/24' }]] },
  } as JsonObject;
  foldKeys(configuration, weftKeys);
  checkIpamConfiguration(configuration);
  const { bridge, overlay: isOverlay } = readSettings(configuration);
  assert.equal([bridge, isOverlay], ['br9', false]);
});

test.run();
