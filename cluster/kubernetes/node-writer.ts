/**
 * Reads one Node and writes our own. Every write names the Node's uid, so that it never reaches a Node that was made anew
 * under the old name. It changes the status subresource alone: the right for that is enough.
 */

import type { BackendFormats } from '../backend-format.ts';
import type { Clock, Random } from '../clock.ts';
import { isObject, type LeaseValue } from '../lease.ts';
import type { NodeEvent } from '../store.ts';
import {
  formatAnnotations,
  healthAnnotation,
  isManaged,
  leavingAnnotations,
  missingAnnotations,
} from './annotations.ts';
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
  readonly random: Random;
}

/** Kubernetes' limit is 1024. */
const longestMessageBytes = 1000;

function cut(message: string): string {
  if (Buffer.byteLength(message) <= longestMessageBytes) return message;
  // A character of JavaScript's has at most three bytes.
  return `${message.slice(0, Math.floor(longestMessageBytes / 3) - 1)}…`;
}

/** The name of an event has 253 characters at most. */
const longestName = 220;

/** Kubernetes' times have whole seconds. */
const timeOf = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

const mergePatch = 'application/merge-patch+json';
const strategicPatch = 'application/strategic-merge-patch+json';

export class NodeWriter {
  readonly #options: NodeWriterOptions;
  /** What is wrong, as far as the annotations say it; undefined: nothing. */
  health: string | undefined;

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
    const wanted = formatAnnotations(value, this.#options.backends, this.health);
    const missing = missingAnnotations(wanted, node);
    if (Object.keys(missing).length === 0) return node;
    return await this.#annotate(node, missing, 'write the annotations of');
  }

  /** Says how our network is. @throws StoreError */
  async writeHealth(
    node: NodeMeta,
    version: string,
    health: string | undefined,
  ): Promise<NodeMeta | 'gone' | 'replaced'> {
    const before = this.health;
    // A write of the value that comes between must not take it away again.
    this.health = health;
    try {
      return await this.#annotate(node, healthAnnotation(version, health), 'write the health of');
    } catch (error) {
      this.health = before;
      throw error;
    }
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

  /** Shows the event on our Node, as `kubectl describe node` does. @throws StoreError */
  async showEvent({ name, uid }: NodeMeta, { reason, message }: NodeEvent): Promise<void> {
    const { client, clock, random } = this.#options;
    const nowMs = clock.nowMs();
    const now = timeOf(nowMs);
    const suffix = `${nowMs.toString(16)}${Math.floor(random() * 0x10000).toString(16)}`;
    const value = {
      apiVersion: 'v1',
      kind: 'Event',
      // Node objects are in no namespace; their events are in this one.
      metadata: { name: `${name.slice(0, longestName)}.${suffix}`, namespace: 'default' },
      involvedObject: { apiVersion: 'v1', kind: 'Node', name, uid },
      type: 'Warning',
      reason,
      message: cut(message),
      source: { component: 'weftd', host: name },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    const operation: Operation = {
      word: 'create_event',
      op: `create an event of the Node "${name}"`,
      subject: name,
      right: { resource: 'events', verb: 'create' },
    };
    const path = '/api/v1/namespaces/default/events';
    const body = { type: 'application/json', value };
    await client.ask({ operation, method: 'POST', path, accept: accept.object.metadata, body });
  }

  /** Kubernetes then lets pods come: the controller manager takes away the taint. @throws StoreError */
  async setNetworkAvailable({ uid }: NodeMeta): Promise<void> {
    const now = timeOf(this.#options.clock.nowMs());
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
