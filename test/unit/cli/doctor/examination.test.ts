import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runChecks } from '../../../../cli/doctor/examination.ts';
import type { BoundCheck, HostFinding } from '../../../../cli/doctor/host-check.ts';
import { command, quote } from '../../../../cli/doctor/host-check.ts';
import { exitStatus, formatJson, formatReport, rowsOf, statusOf } from '../../../../cli/doctor/report.ts';
import { styleFor } from '../../../../cli/text.ts';
import { printable } from '../../../../command/printable.ts';

const check = (code: string, run: BoundCheck['run'], severity: 'warning' | 'error' = 'error'): BoundCheck => ({
  code,
  title: code,
  severity,
  costMs: 1,
  why: 'it hurts',
  remedy: '`mend it`',
  run,
  advice: () => '',
});
const finding = (subject: string, rest: Partial<HostFinding> = {}): HostFinding => ({
  subject,
  facts: {},
  what: `wrong: ${subject}`,
  ...rest,
});

test('a check that fails and one that hangs are told, and do not stop the others', async () => {
  const aborted: string[] = [];
  const results = await runChecks(
    [
      check('fails', () => {
        throw new Error('no right');
      }),
      check('hangs', (signal) => {
        signal.addEventListener('abort', () => aborted.push('hangs'));
        return new Promise(() => {});
      }),
      check('finds', () => [finding('x')]),
    ],
    20,
  );
  assert.equal(
    results.map(({ failure, findings }) => failure ?? findings.map(({ what }) => what)),
    ['no right', 'it did not end within 0.02 s', ['wrong: x']],
  );
  assert.equal(aborted, ['hangs']);
  const report = formatReport(rowsOf(results), results, styleFor(false));
  assert.match(report, /^unknown {2}fails: This check could not run: no right$/m);
  assert.match(report, /^1 error by 3 checks, of which 2 could not run$/m);
});

test('the exit status is that of the worst finding, and a check without a result counts as a warning', async () => {
  const statusFor = async (...checks: BoundCheck[]): Promise<number> => {
    const results = await runChecks(checks, 1000);
    return statusOf(rowsOf(results), results);
  };
  const well = check('well', () => []);
  const warns = check('warns', () => [finding('x')], 'warning');
  const fails = check('fails', () => Promise.reject(new Error('no')));
  assert.is(await statusFor(well), exitStatus.well);
  assert.is(await statusFor(well, warns), exitStatus.warnings);
  assert.is(await statusFor(well, fails), exitStatus.warnings);
  assert.is(
    await statusFor(
      warns,
      check('is wrong', () => [finding('x')]),
    ),
    exitStatus.errors,
  );
});

test("weftd's line about a problem is left out where a check has the command against it", async () => {
  const weftd = check('weftd-problem', () => [
    finding('a', { code: 'subnet-carrier' }),
    finding('b', { code: 'route', severity: 'warning' }),
  ]);
  const own = check('subnet-carrier', () => [finding('docker0', { command: 'ip address del' })]);
  const results = await runChecks([weftd, own], 1000);
  assert.equal(
    rowsOf(results).map(({ code, finding: { subject } }) => [code, subject]),
    [
      ['route', 'b'],
      ['subnet-carrier', 'docker0'],
    ],
  );
});

test("a hostile name's control characters reach neither a terminal nor a reader of the JSON, and the shell not as code", async () => {
  const name = "a\x1b[2J\x9b31m\n'; reboot; '";
  const results = await runChecks([check('x', () => [finding(name, { command: command('rm', '--', name) })])], 1000);
  const rows = rowsOf(results);
  const text = formatReport(rows, results, styleFor(false));
  const escaped = (lines: string): string => lines.split('\n').map(printable).join('\n');
  assert.is(escaped(text), text);
  assert.is(text.split('\n').length, 5);
  const json = formatJson(rows, results);
  assert.is(escaped(json), json);
  assert.is(JSON.parse(json).findings[0].subject, name);
  assert.is(quote(name), `'a\x1b[2J\x9b31m\n'\\''; reboot; '\\'''`);
  assert.is(command('ip', 'link', 'set', 'dev', 'eth0.5', 'up'), 'ip link set dev eth0.5 up');
});

test.run();
