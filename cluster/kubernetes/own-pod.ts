/** The name of our Node where nobody has given it: weftd's pod knows it. */

import type { Clock } from '../clock.ts';
import { isObject } from '../lease.ts';
import { accept, KubeClient } from './client.ts';
import { Credentials, type CredentialsOptions } from './credentials.ts';
import type { Operation } from './errors.ts';

export interface OwnPodOptions extends CredentialsOptions {
  readonly clock: Clock;
  readonly timeoutMs?: number | undefined;
}

/** Undefined if this is no pod that knows its own name (POD_NAME, POD_NAMESPACE). @throws StoreError */
export async function findNodeOfPod({
  kubernetes,
  environment,
  clock,
  timeoutMs = 10_000,
}: OwnPodOptions): Promise<string | undefined> {
  const { POD_NAME: pod, POD_NAMESPACE: namespace } = environment;
  if (!pod || !namespace) return undefined;
  const client = new KubeClient({ credentials: new Credentials({ kubernetes, environment }), clock, timeoutMs });
  const operation: Operation = {
    word: 'get_pod',
    op: `read the pod "${namespace}/${pod}", which knows the name of its node`,
    subject: pod,
    right: { resource: 'pods', verb: 'get' },
  };
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}`;
  try {
    const found = await client.ask({ operation, path, accept: accept.object.whole });
    const spec = isObject(found) ? found['spec'] : undefined;
    const name = isObject(spec) ? spec['nodeName'] : undefined;
    return typeof name === 'string' && name !== '' ? name : undefined;
  } finally {
    client.close();
  }
}
