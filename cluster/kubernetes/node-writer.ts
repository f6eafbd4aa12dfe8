/**
 * Reads one Node and writes our own. Every write names the Node's uid, so that it never reaches a Node that was made anew
 * under the old name. It changes the status subresource alone: the right for that is enough.
 */

import type { BackendFormats } from '../backend-format.ts';
import type { Clock } from '../clock.ts';
import { isObject, type LeaseValue } from '../lease.ts';
import { formatAnnotations, isManaged, leavingAnnotations, missingAnnotations } from './annotations.ts';
import { accept, type Form, type KubeClient } from './client.ts';
import { isConflict, isMissing, type Operation } from './errors.ts';
import { type AnnotationKeys, type NodeMeta, reduceMeta, reduceWhole, type WholeNode } from './node-object.ts';

export interface NodeWriterOptions {
  readonly client: Pick<KubeClient, 'ask'>;
  readonly keys: AnnotationKeys;
  /** The name of our Node. */
  readonly node: string;
  readonly backends: BackendFormats;
  readonly clock: Clock;
}

const mergePatch = 'application/merge-patch+json';
const strategicPatch = 'application/strategic-merge-patch+json';

export class NodeWriter {
  readonly #options: NodeWriterOptions;

  constructor(options: NodeWriterOptions) {
    this.#options = options;
  }

  #operation(verb: 'get' | 'patch', word: string, op: string, name: string): Operation {
    const resource = verb === 'get' ? 'nodes' : 'nodes/status';
    return { word, op: `${op} the Node "${name}"`, subject: name, right: { resource, verb } };
  }

  /** undefined if there is none. @throws StoreError */
  async read(name: string): Promise<WholeNode | undefined> {
    const { client, keys } = this.#options;
    const operation = this.#operation('get', 'get_node', 'read', name);
    const path = `/api/v1/nodes/${encodeURIComponent(name)}`;
    try {
      return reduceWhole(await client.ask({ operation, path, accept: accept.object.whole }), keys);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async #patch(op: string, word: string, type: string, value: unknown, form: Form): Promise<unknown> {
    const { client, node } = this.#options;
    const operation = this.#operation('patch', word, op, node);
    const path = `/api/v1/nodes/${encodeURIComponent(node)}/status`;
    return await client.ask({ operation, method: 'PATCH', path, accept: accept.object[form], body: { type, value } });
  }

  /** Says the value in the annotations. Without a difference nothing is written. @throws StoreError */
  async write(node: NodeMeta, value: LeaseValue): Promise<NodeMeta | 'gone' | 'replaced'> {
    const wanted = formatAnnotations(value, this.#options.backends);
    const missing = missingAnnotations(wanted, node);
    if (Object.keys(missing).length === 0) return node;
    return await this.#annotate(node, missing, 'write the annotations of');
  }

  /** @returns whether there was anything to take away @throws StoreError */
  async clear(node: NodeMeta): Promise<boolean> {
    if (!isManaged(node)) return false;
    const result = await this.#annotate(node, leavingAnnotations(), 'take the annotations from');
    return typeof result !== 'string';
  }

  async #annotate(
    { uid }: NodeMeta,
    changes: Readonly<Record<string, string | null>>,
    op: string,
  ): Promise<NodeMeta | 'gone' | 'replaced'> {
    const { keys, node } = this.#options;
    const annotations = Object.fromEntries(Object.entries(changes).map(([name, value]) => [keys.prefix + name, value]));
    try {
      const answer = await this.#patch(op, 'patch_node', mergePatch, { metadata: { uid, annotations } }, 'metadata');
      return reduceMeta(answer, keys) ?? 'gone';
    } catch (error) {
      if (isMissing(error)) return 'gone';
      if (!isConflict(error)) throw error;
      // The answer is the same to a policy's "no".
      const now = await this.read(node);
      if (!now) return 'gone';
      if (now.uid !== uid) return 'replaced';
      throw error;
    }
  }

  /** Kubernetes then lets pods come: the controller manager takes away the taint. @throws StoreError */
  async setNetworkAvailable({ uid }: NodeMeta): Promise<void> {
    const now = new Date(this.#options.clock.nowMs()).toISOString().replace(/\.\d+Z$/, 'Z');
    const condition = {
      type: 'NetworkUnavailable',
      status: 'False',
      reason: 'WeftIsUp',
      message: 'Weft is running on this node',
      lastHeartbeatTime: now,
      lastTransitionTime: now,
    };
    const value = { metadata: { uid }, status: { conditions: [condition] } };
    const answer = await this.#patch('set NetworkUnavailable of', 'patch_node', strategicPatch, value, 'metadata');
    if (!isObject(answer)) throw new TypeError('The answer is no object');
  }
}
