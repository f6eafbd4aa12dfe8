/** The objects of examples/kubernetes/weft.yaml, and weftd as its pods run it: with the token of a pod's service account. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Finished } from './commands.ts';
import type { Kube } from './kube.ts';
import { annotationPrefix } from './kube-cluster.ts';
import { root } from './project.ts';

/** A YAML document, or the parts of it that tests look at. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> };
  readonly [field: string]: unknown;
}

export const manifestFolder = join(root, 'examples', 'kubernetes');
export const manifestPath = join(manifestFolder, 'weft.yaml');

/** The documents of a YAML text. */
export function parseObjects(text: string): KubeObject[] {
  const { Bun: bun } = globalThis as unknown as { readonly Bun: { readonly YAML: { parse(text: string): unknown } } };
  const documents = bun.YAML.parse(text);
  return (Array.isArray(documents) ? documents : [documents]).filter((each) => each !== null) as KubeObject[];
}

export const readObjects = (path = manifestPath): KubeObject[] => parseObjects(readFileSync(path, 'utf8'));

/** A list that kubectl takes. */
export const listOf = (objects: readonly unknown[]): string =>
  JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });

/**
 * Makes a pod of the service account "weft" on a Node, as the DaemonSet controller would, and a kubeconfig with its token.
 * @returns the kubeconfig's path
 */
export function addWeftPod(kube: Kube, namespace: string, node: string, name = `weft-${node}`): string {
  const containers = [{ name: 'weftd', image: 'weft' }];
  const spec = { nodeName: node, serviceAccountName: 'weft', containers };
  const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace }, spec };
  kube.kubectl(['create', '-f', '-'], JSON.stringify(pod));
  const bound = ['--bound-object-kind', 'Pod', '--bound-object-name', name];
  const token = kube.kubectl(['create', 'token', '-n', namespace, 'weft', ...bound]).trim();
  const path = join(kube.folder, `${namespace}-${name}.kubeconfig`);
  writeFileSync(path, kube.kubeconfigText(token));
  return path;
}

/** Writes the public address into the Node's annotations as the user of this kubeconfig, by the right that weftd has. */
export function annotateStatus(
  kube: Kube,
  kubeconfig: string,
  node: string,
  address: string,
  ...more: string[]
): Finished {
  const patch = JSON.stringify({ metadata: { annotations: { [`${annotationPrefix}public-ip`]: address } } });
  const words = ['patch', 'node', node, '--subresource=status', '--type=merge', '-p', patch, ...more];
  return kube.kubectlAs(kubeconfig, words);
}
