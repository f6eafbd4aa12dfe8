/** Faults, one at a time: each is found by name, and the command that doctor prints repairs it. */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { type DoctorFinding, Patient } from '../lab/doctor.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';
import type { Fault } from './doctor-faults.ts';

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
        fault.inject(patient);
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
  return test;
}
