/** Calls other plugins as a runtime calls this one: by exec, with the same environment and the whole configuration. */

import { check, errno } from '../linux/errors.ts';
import { type Sys, stat } from '../linux/sys.ts';
import type { Command } from './spec/environment.ts';
import { CniError, causeText, errorCodes } from './spec/errors.ts';
import { foldKeys } from './spec/keys.ts';
import type { CniRequest, JsonObject } from './spec/request.ts';
import { parseResult, type Result, resultKeys } from './spec/results.ts';
import { quote } from './spec/text.ts';
import { latestVersion } from './spec/versions.ts';

/** The name of this plugin, in any folder. */
const ownName = 'weft';

/** The key by which the configuration names its IPAM plugin. */
const ipamType = 'ipam.type';

const pluginNamePattern = /^[^/\0]+$/;

/** A plugin's file in CNI_PATH. */
export interface PluginFile {
  readonly path: string;
  /** Whether it is this very executable, under whichever name. */
  readonly isSelf: boolean;
}

/**
 * @param key the key of the configuration that names the plugin, for errors
 * @returns undefined if there is no such plugin
 * @throws CniError 7 if the name is a path
 */
export function lookForPlugin(
  sys: Sys,
  request: Pick<CniRequest, 'path'>,
  type: string,
  key = ipamType,
): PluginFile | undefined {
  if (!pluginNamePattern.test(type) || type === '.' || type === '..') {
    throw new CniError(errorCodes.invalidConfiguration, `"${key}" ${quote(type)} is not the name of a plugin`);
  }
  for (const folder of request.path) {
    const path = `${folder}/${type}`;
    const status = sys.stat(path);
    if (typeof status === 'number' || (status.mode & stat.S_IFMT) !== stat.S_IFREG) continue;
    const self = sys.stat('/proc/self/exe');
    return { path, isSelf: typeof self !== 'number' && self.dev === status.dev && self.ino === status.ino };
  }
  return undefined;
}

export const missingPluginError = (request: Pick<CniRequest, 'path'>, type: string, key = ipamType): CniError =>
  new CniError(
    errorCodes.notAvailable,
    `There is no plugin "${type}" in CNI_PATH "${request.path.join(':')}"; install it there, or change "${key}"`,
    { details: `failed to find plugin "${type}" in path ${quote(request.path)}` },
  );

/**
 * The plugin's file in CNI_PATH.
 * @throws CniError 7 if the name is a path or this plugin's own, 50 if there is no such plugin
 */
function findPlugin(sys: Sys, request: Pick<CniRequest, 'path'>, type: string, key = ipamType): string {
  const found = lookForPlugin(sys, request, type, key);
  if (!found) throw missingPluginError(request, type, key);
  // The plugin would call itself endlessly.
  if (found.isSelf || (key === ipamType && type === ownName)) {
    throw new CniError(
      errorCodes.invalidConfiguration,
      key === ipamType
        ? `"${key}" is ${quote(type)}, which is this plugin itself and gives no addresses; use "weft-ipam"`
        : `"${key}" is ${quote(type)}, which is this plugin itself; name the one that attaches containers, as "bridge"`,
    );
  }
  return found.path;
}

/** Checks the plugin before ADD makes anything. @throws CniError 7 or 50 if the plugin cannot be called */
export const checkPlugin = (sys: Sys, request: CniRequest, type: string): void => {
  findPlugin(sys, request, type);
};

function parseDocument(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
  } catch {
    return undefined;
  }
}

/** The plugin's own error, unchanged, or an error that says that it gave none. */
function pluginError(type: string, status: number, stdout: string, stderr: string): CniError {
  const document = parseDocument(stdout);
  if (document && typeof document['code'] === 'number' && typeof document['msg'] === 'string') {
    const { code, msg, details } = document;
    const whole = 'cniVersion' in document ? document : { cniVersion: latestVersion, ...document };
    return new CniError(code, msg, {
      details: typeof details === 'string' ? details : '',
      document: JSON.stringify(whole),
    });
  }
  return new CniError(
    errorCodes.delegateFailed,
    `The plugin "${type}" ended with status ${status} and no error of its own`,
    {
      details: [stdout, stderr]
        .map((text) => text.trim())
        .filter((text) => text !== '')
        .join('; '),
    },
  );
}

/**
 * Runs the plugin.
 * @returns its stdout
 * @throws CniError: the plugin's own error, 50, or 109
 */
export function callPlugin(sys: Sys, request: CniRequest, type: string, command: Command, key = ipamType): string {
  const path = findPlugin(sys, request, type, key);
  const environment = request.all.filter((entry) => !entry.startsWith('CNI_COMMAND='));
  environment.push(`CNI_COMMAND=${command}`);
  const { buffer, byteOffset, byteLength } = request.stdin;
  const stdin = (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength);
  const spawned = sys.spawn(path, [path], environment, stdin);
  if (spawned === -errno.ENOENT) {
    throw new CniError(errorCodes.delegateFailed, `The plugin "${path}" cannot be started: its interpreter is missing`);
  }
  try {
    const { status, stdout, stderr } = check(spawned, ['run the plugin', path]);
    const text = sys.decodeUtf8(stdout, 0, stdout.byteLength);
    if (status === 0) return text;
    throw pluginError(type, status, text, sys.decodeUtf8(stderr, 0, stderr.byteLength));
  } catch (error) {
    if (error instanceof CniError) throw error;
    throw new CniError(errorCodes.delegateFailed, `The plugin "${type}" could not be run`, { cause: error });
  }
}

/**
 * ADD of an IPAM plugin. If it fails, its DEL follows, because it may have kept an address.
 * @throws CniError
 */
export function addByPlugin(sys: Sys, request: CniRequest, type: string): Result {
  // A missing plugin has kept nothing.
  findPlugin(sys, request, type);
  try {
    const document = parseDocument(callPlugin(sys, request, type, 'ADD'));
    foldKeys(document, resultKeys);
    return parseResult(document, request.cniVersion);
  } catch (error) {
    let details = '';
    try {
      callPlugin(sys, request, type, 'DEL');
    } catch (failed) {
      details = `its DEL failed too: ${causeText(failed)}`;
    }
    if (error instanceof CniError) {
      if (details === '' || error.document !== undefined) throw error;
      throw new CniError(error.code, error.message, {
        cause: error,
        details: [error.details, details].filter((text) => text !== '').join('; '),
      });
    }
    throw new CniError(errorCodes.delegateFailed, `The answer of the plugin "${type}" cannot be read`, {
      cause: error,
      details: [causeText(error), details].filter((text) => text !== '').join('; '),
    });
  }
}

/** Calls of other IPAM plugins, for the programs that carry them. */
export interface IpamPlugins {
  readonly check: typeof checkPlugin;
  readonly add: typeof addByPlugin;
  readonly call: typeof callPlugin;
}

export const ipamPlugins: IpamPlugins = { check: checkPlugin, add: addByPlugin, call: callPlugin };
