import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { attachVerbs } from '../../../cli/attach/verbs.ts';
import { dockerPluginVerb } from '../../../cli/docker-plugin/verb.ts';
import { doctorVerb } from '../../../cli/doctor/description.ts';
import { gcVerb } from '../../../cli/gc/verb.ts';
import { installVerbs } from '../../../cli/install/verbs.ts';
import { migrateVerb } from '../../../cli/migrate/verb.ts';
import { ConfigSection } from '../../../cluster/config-section.ts';
import { backends } from '../../../daemon/backends/map.ts';
import { helpText } from '../../../daemon/options.ts';
import { Metrics } from '../../../daemon/report/metrics.ts';
import type { Family } from '../../../net/address.ts';
import { errorTexts } from '../../support/error-texts.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const read = (name: string): string => readFileSync(`${root}${name}`, 'utf8');

test('docs/errors.md has every error code of ours, as the code means it', () => {
  const errors = read('docs/errors.md');
  const table = errorTexts.map(([code, text]) => `| ${code} | ${text} |`).join('\n');
  const begin = '<!-- errors: begin -->';
  const section = errors.slice(errors.indexOf(begin) + begin.length, errors.indexOf('<!-- errors: end -->')).trim();
  assert.is(section, `| code | meaning |\n| --- | --- |\n${table}`);
});

test('every option of weftd that docs/configuration.md names exists', () => {
  const configuration = read('docs/configuration.md');
  const section = configuration.slice(configuration.indexOf('## The daemon'), configuration.indexOf('## The command'));
  const named = [...section.matchAll(/`--([a-z0-9-]+)`/g)].map((match) => match[1]!);
  assert.ok(named.length > 10);
  for (const name of named) assert.match(helpText(), new RegExp(`^ {2}--${name}\\b`, 'm'), name);
});

test('every option of weftd that README.md names exists', () => {
  const own = [...helpText().matchAll(/^ {2}--([a-z0-9-]+)/gm)].map((match) => match[1]!);
  // Options of weftctl, Docker and firewall-cmd, which the README names, too.
  const others = [
    'json',
    'help',
    'permanent',
    'zone',
    'add-source',
    'reload',
    'now',
    'no-block',
    'wait',
    'keep',
    'clean',
    'ipam-driver',
    ...dockerPluginVerb.options.map(({ name }) => name),
    ...[...installVerbs, ...attachVerbs, doctorVerb, gcVerb, migrateVerb].flatMap(({ options }) =>
      options.map(({ name }) => name),
    ),
  ];
  const named = [...read('README.md').matchAll(/(?<=[ `])--([a-z][a-z0-9-]+)/g)].map((match) => match[1]!);
  assert.ok(named.length > 5);
  for (const name of named) assert.ok([...own, ...others].includes(name), name);
});

test('docs/configuration.md describes every backend of weftd, with its overhead, and no other', () => {
  const rows = [
    ...read('docs/configuration.md').matchAll(/^\| `([\w-]+)` \| .* \| (\d+)(?: \/ ([\d–]+))?.* \| .* \|$/gm),
  ];
  const described = rows.map(([, name, ipv4, ipv6]) => ({ name, 4: ipv4, 6: ipv6 }));
  const own = [...backends.values()].map((backend) => {
    const config = backend.parseConfig(new ConfigSection('Backend.', { Type: backend.name }), [4, 6]);
    const overhead = (family: Family): string =>
      backend.families.includes(family) ? String(backend.overheadBytes(config, family)) : '–';
    const isSame = overhead(4) === overhead(6);
    return { name: backend.name, 4: overhead(4), 6: isSame ? undefined : overhead(6) };
  });
  assert.equal(described, own);
});

test('docs/metrics.md has every metric of weftd, and no other', () => {
  const { descriptions } = new Metrics({ version: '', runtime: '', monotonic: () => 0 });
  const own = descriptions.map(({ name }) => name).filter((name) => name.startsWith('weftd_'));
  const named = [...read('docs/metrics.md').matchAll(/`(weftd_[a-z_]+)`/g)].map((match) => match[1]!);
  assert.equal([...named].sort(), [...own].sort());
});

test.run();
