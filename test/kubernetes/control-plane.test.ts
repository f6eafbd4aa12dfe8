/**
 * The real Kubernetes of this part: it starts, keeps Node objects, and comes back after a kill.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { freePorts } from '../lab/etcd.ts';
import { Kube } from '../lab/kube.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('control plane');
const kube = fixture(
  test,
  async () => {
    const scratch = new Scratch('kube');
    const made = new Kube({ scratch, address: '127.0.0.1', port: await freePorts(3) });
    try {
      await made.start();
      return { scratch, made };
    } catch (error) {
      scratch.remove();
      throw error;
    }
  },
  ({ scratch }) => scratch.remove(),
);

test('Node objects outlive a killed API server', async () => {
  const { made } = kube();
  made.addNode('node1', ['10.244.1.0/24'], { note: 'x' });
  await made.restartApiserver();
  assert.equal(made.node('node1').spec.podCIDRs, ['10.244.1.0/24']);
  assert.is(made.annotations('node1')['note'], 'x');
});

test.run();
