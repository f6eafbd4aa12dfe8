/** Lists Nodes in pages: thousands of whole ones are too much for one answer. */

import { isObject } from '../lease.ts';
import { accept, type Form, type KubeClient } from './client.ts';
import type { Operation } from './errors.ts';

const pageSize = 500;

/**
 * Hands over every Node of the list.
 * @param selector further words of the request: `&fieldSelector=…`
 * @returns the version of the list
 * @throws StoreError; Error: the answer is no list
 */
export async function listInPages(
  client: Pick<KubeClient, 'ask'>,
  {
    operation,
    form,
    selector = '',
  }: { readonly operation: Operation; readonly form: Form; readonly selector?: string },
  onNode: (object: unknown) => void,
): Promise<string> {
  let rest = '';
  for (;;) {
    const path = `/api/v1/nodes?limit=${pageSize}${selector}${rest}`;
    const page = await client.ask({ operation, path, accept: accept.list[form] });
    const { items, metadata } = isObject(page) ? page : {};
    const { resourceVersion, continue: more } = isObject(metadata) ? metadata : {};
    if (!Array.isArray(items) || typeof resourceVersion !== 'string') throw new Error('The answer is no list');
    for (const item of items) onNode(item);
    if (typeof more !== 'string' || more === '') return resourceVersion;
    rest = `&continue=${encodeURIComponent(more)}`;
  }
}
