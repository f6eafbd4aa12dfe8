import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KernelSettings } from '../../../../daemon/overlay/kernel-settings.ts';
import { openLogger } from '../../../../daemon/report/log.ts';

const test = suite('daemon/overlay/kernel-settings');

/** The lines that are logged when the settings are ensured three times. */
function logged(ipMasq: boolean, settings: Readonly<Record<string, string>>): string[] {
  const lines: string[] = [];
  const kernelSettings = new KernelSettings({
    kernel: { readSysctl: (path) => settings[path.join('/')], ensureSysctl: () => false },
    healing: { noteSettings: () => false, noteFailure: () => {} },
    logger: openLogger({ level: 'info', format: 'text', write: (line) => lines.push(line.slice(25)), now: () => 0 }),
    problems: { reportAll: () => {} },
    ipMasq,
  });
  const wanted = {
    ...{ devices: [], addresses: [], neighbours: [], fdb: [], routes: [] },
    ...{ formerDevices: [], networks: [], flannelGateways: [] },
  };
  for (let i = 0; i < 3; i++) kernelSettings.ensure(wanted, 'eth0', [4], { links: [], addresses: [], routes: [] });
  return lines;
}

test('a strict rp_filter without masquerading is told once', () => {
  const strict = { 'net/ipv4/conf/all/rp_filter': '1', 'net/ipv4/conf/eth0/rp_filter': '0' };
  const lines = logged(false, strict);
  assert.is(lines.length, 1);
  assert.match(lines[0]!, /^warn {2}Kernel setting net\.ipv4\.conf\.eth0\.rp_filter is strict.* --ip-masq/);
  assert.equal(logged(true, strict), []);
  assert.equal(logged(false, { ...strict, 'net/ipv4/conf/eth0/rp_filter': '2' }), []);
});

test.run();
