/** The node's own network, from the files of weftd or flanneld. */

import { CniError, errorCodes } from '../cni/spec/errors.ts';
import type { JsonObject } from '../cni/spec/request.ts';
import { readText } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';
import { type NodeFilePaths, type NodeNetwork, readNodeFiles } from '../net/node-file.ts';
import { defaultPaths, nodeFilePath } from '../net/paths.ts';

/** `runDir` and `subnetFile` may stand in `ipam` or at the top level. */
export function nodeFilePaths(configuration: JsonObject): NodeFilePaths {
  const ipam = (configuration['ipam'] ?? {}) as JsonObject;
  const pathOf = (key: string, otherwise: string): string => {
    const path = ipam[key] ?? configuration[key];
    return typeof path === 'string' && path !== '' ? path : otherwise;
  };
  return { runDir: pathOf('runDir', defaultPaths.runDir), subnetFile: pathOf('subnetFile', defaultPaths.subnetFile) };
}

/**
 * node.json, or else subnet.env.
 * @throws CniError 11 if there is neither, or if one cannot be read
 */
export function readNodeNetwork(sys: Sys, paths: NodeFilePaths): NodeNetwork {
  const network = readNodeFiles(
    paths,
    (path) => readText(sys, path),
    (path, cause) => {
      throw new CniError(
        errorCodes.tryAgainLater,
        `Cannot use the node's network in "${path}": weftd rewrites it when it starts`,
        { cause },
      );
    },
  );
  if (network) return network;
  const nodeFile = nodeFilePath(paths.runDir);
  const { subnetFile } = paths;
  throw new CniError(
    errorCodes.tryAgainLater,
    `This node has no subnet yet: there is neither "${nodeFile}" nor "${subnetFile}"; see that weftd runs and reaches etcd`,
    { details: `missing: ${nodeFile}, ${subnetFile}` },
  );
}
