/** Faults, one at a time: each is found by name, and the command that doctor prints repairs it. */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { execute, type Finished } from '../lab/commands.ts';
import { type DoctorFinding, type DoctorReport, Patient } from '../lab/doctor.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';
import type { Fault } from './doctor-faults.ts';
import { type SetUp, startSetUp } from './doctor-healthy.ts';

const find = (patient: Patient, { code, subject = '' }: Fault): DoctorFinding | undefined =>
  patient.examine().findings.find((each) => each.code === code && each.subject.includes(subject));

/** Nothing is found. */
export const isWell = (patient: Patient): Promise<true> =>
  waitFor('a host without findings', () => {
    const { findings, failed } = patient.examine();
    if (findings.length + failed.length > 0) throw new Error(JSON.stringify([...findings, ...failed]));
    return true;
  });

async function start(): Promise<{ cluster: Cluster; patient: Patient }> {
  const cluster = new Cluster('doctor');
  await cluster.startEtcd();
  cluster.put('config', readFileSync(exampleConfig, 'utf8'));
  const [host, other] = [cluster.addHost(), cluster.addHost()];
  const patient = new Patient(host);
  patient.startService();
  other.startWeftd();
  for (const each of cluster.hosts) await each.reaches(cluster.hosts);
  host.attachPods(2);
  return { cluster, patient };
}

/** Adds a test for each fault to a suite. */
export function testFaults(name: string, faults: readonly Fault[]): ReturnType<typeof suite> {
  const test = suite(name);
  const lab = fixture(test, start, ({ cluster, patient }) => {
    patient.remove();
    cluster.remove();
  });

  test('a host with containers and a peer is well', async () => {
    const { patient } = lab();
    await isWell(patient);
    const { status, stdout } = patient.doctor();
    assert.is(status, 0);
    assert.match(stdout, /^Nothing to mend: \d+ checks\n$/);
  });

  for (const fault of faults) {
    test(`doctor finds, and its command repairs: ${fault.name}`, async () => {
      if (!(fault.needs ?? []).every((program) => Patient.has(program))) return;
      const { cluster, patient } = lab();
      if (fault.stopped) patient.stopService();
      try {
        await fault.inject(patient);
        const found = await waitFor(fault.code, () => find(patient, fault));
        assert.ok(found.command, found.what);
        const { status, stderr } = patient.shell(found.command!);
        assert.is(status, 0, `${found.command}: ${stderr}`);
        await waitFor(`an end of ${fault.code}`, () => find(patient, fault) === undefined);
      } finally {
        fault.cleanUp?.(patient);
        if (fault.stopped && fault.code !== 'weftd-down') patient.startService();
      }
      if (!fault.stopped) return;
      await patient.host.reaches(cluster.hosts);
      await isWell(patient);
    });
  }
  test('a file system without room is found, and the command gives it more', async () => {
    const { patient } = lab();
    const mounts = await MountNamespace.open(patient.host.scratch, 'slave');
    mounts.mount('-t', 'tmpfs', '-o', 'size=1M', 'none', patient.host.dataDir);
    const inThere = (argv: readonly string[]): Finished => execute([...mounts.enter(patient.host.namespace), ...argv]);
    const full = (): DoctorFinding | undefined => {
      const { stdout } = inThere(patient.doctorArguments('--json'));
      return (JSON.parse(stdout) as DoctorReport).findings.find(({ code }) => code === 'disk-full');
    };
    const found = full();
    assert.match(found?.what ?? '', /^The file system of ".*networks" has only \d+ kB left$/);
    assert.is(inThere(['/bin/sh', '-c', found!.command!]).status, 0);
    assert.is(full(), undefined);
  });
  return test;
}

/** Adds a test for each set-up to a suite: nothing is found, within the time that people wait. */
export function testSetUps(name: string, setUps: readonly SetUp[]): ReturnType<typeof suite> {
  const test = suite(name);
  for (const [number, setUp] of setUps.entries()) {
    test(`doctor finds nothing on a healthy host: ${setUp.name}`, async () => {
      const { cluster, patient } = await startSetUp(setUp, number);
      try {
        setUp.prepare(patient);
        await isWell(patient);
        const { status, stdout } = patient.doctor();
        assert.is(status, 0, stdout);
      } finally {
        patient.remove();
        cluster.remove();
      }
    });
  }
  return test;
}
