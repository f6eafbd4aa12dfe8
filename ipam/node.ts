/** The node's own network, from the files that weftd (or flanneld) leaves. */

import { CniError, errorCodes } from '../cni/spec/errors.ts';
import type { JsonObject } from '../cni/spec/request.ts';
import { readText } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';
import { type NodeNetwork, parseNodeFile, parseSubnetEnv } from '../net/node-file.ts';

const defaultRunDir = '/run/weft';
const defaultSubnetFile = '/run/flannel/subnet.env';

export interface NodeFilePaths {
  readonly runDir: string;
  readonly subnetFile: string;
}

/** `runDir` and `subnetFile` stand in `ipam` or at the top level. */
export function nodeFilePaths(configuration: JsonObject): NodeFilePaths {
  const ipam = (configuration['ipam'] ?? {}) as JsonObject;
  const pathOf = (key: string, otherwise: string): string => {
    const path = ipam[key] ?? configuration[key];
    return typeof path === 'string' && path !== '' ? path : otherwise;
  };
  return { runDir: pathOf('runDir', defaultRunDir), subnetFile: pathOf('subnetFile', defaultSubnetFile) };
}

/**
 * node.json, or else subnet.env.
 * @throws CniError 11 where there is neither, or one that cannot be read
 */
export function readNodeNetwork(sys: Sys, { runDir, subnetFile }: NodeFilePaths): NodeNetwork {
  const nodeFile = `${runDir}/node.json`;
  const sources = [
    [nodeFile, parseNodeFile],
    [subnetFile, parseSubnetEnv],
  ] as const;
  for (const [path, parse] of sources) {
    try {
      const text = readText(sys, path);
      if (text !== undefined) return parse(text);
    } catch (error) {
      throw new CniError(
        errorCodes.tryAgainLater,
        `Cannot use the node's network in "${path}": weftd writes it anew when it starts`,
        { cause: error },
      );
    }
  }
  throw new CniError(
    errorCodes.tryAgainLater,
    `This node has no subnet yet: there is neither "${nodeFile}" nor "${subnetFile}"; see that weftd runs and reaches etcd`,
    { details: `missing: ${nodeFile}, ${subnetFile}` },
  );
}
