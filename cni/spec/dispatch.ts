/**
 * One call of a plugin. Environment and stdin are checked in the order of the reference's dispatcher, then the verb
 * runs. Exactly one document goes to stdout: the result or the error. Access to the system is handed in.
 */

import { type Environment, isCommand, isIdentifier, readEnvironment } from './environment.ts';
import { CniError, errorCodes, formatError, toCniError } from './errors.ts';
import { lookUp } from './keys.ts';
import type { CniRequest, JsonObject, Verb } from './request.ts';
import { quote } from './text.ts';
import { type CniVersion, isAtLeast, isSupported, supportedVersions } from './versions.ts';

/** Input and output of a call. */
export interface Stdio {
  /** All of stdin. Throws if it cannot be read, and an error with the code EFBIG if it is larger. */
  readonly readStdin: (limitBytes: number) => Uint8Array;
  readonly decodeUtf8: (bytes: Uint8Array) => string;
  /** Throws if it cannot be written. */
  readonly writeStdout: (text: string) => void;
  /** Never throws. */
  readonly writeStderr: (text: string) => void;
}

const mebibyte = 1024 * 1024;

/**
 * etcd, and with it Kubernetes, keeps no object of more than 1.5 MiB, so no honest configuration is larger, whatever wrote
 * it. Its keys are folded and validated one by one: many times more would take seconds. GC's configuration lists the
 * attachments of a whole node, some 130 bytes each.
 */
const configurationLimitBytes = (command: string): number => (command === 'GC' ? 16 : 2) * mebibyte;

/** Loads the code for a request, and no more than the request needs. */
export type LoadVerb = (request: CniRequest) => Promise<Verb>;

/** The first version that has the command. */
const introducedIn: Readonly<Partial<Record<string, CniVersion>>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

interface Basics {
  readonly network: string;
  readonly cniVersion: string;
  readonly configuration: JsonObject;
}

function textOf(configuration: JsonObject, key: string): string {
  const value = lookUp(configuration, key) ?? '';
  if (typeof value !== 'string') {
    throw new CniError(
      errorCodes.undecodable,
      `The network configuration's "${key}" must be a string, but is ${quote(value)}`,
    );
  }
  return value;
}

/** How much of an unreadable configuration is shown. */
const shownCharacters = 40;

/** The text may be JSON, and the engine gave up. */
function undecodable(error: unknown): CniError {
  const isMemory = error instanceof Error && /memory/i.test(error.message);
  const message = isMemory
    ? 'Memory has run out while the network configuration was decoded'
    : 'The network configuration is nested too deeply';
  return new CniError(errorCodes.undecodable, message, { cause: error });
}

function readBasics(text: string): Basics {
  let configuration: unknown;
  try {
    configuration = JSON.parse(text);
  } catch (error) {
    // In our own words, because those of JavaScript engines differ.
    if (!(error instanceof SyntaxError)) throw undecodable(error);
    if (text.trim() === '') {
      throw new CniError(errorCodes.undecodable, 'The network configuration is empty: nothing came on stdin');
    }
    throw new CniError(errorCodes.undecodable, 'The network configuration is not JSON', {
      details: `it is ${text.length} characters and begins with ${quote(text.slice(0, shownCharacters))}`,
    });
  }
  if (typeof configuration !== 'object' || configuration === null || Array.isArray(configuration)) {
    throw new CniError(errorCodes.undecodable, 'The network configuration is not a JSON object');
  }
  const object = configuration as JsonObject;
  const network = textOf(object, 'name');
  const cniVersion = textOf(object, 'cniVersion') || '0.1.0';
  if (network === '') {
    throw new CniError(errorCodes.invalidConfiguration, 'The network configuration has no "name"');
  }
  if (!isIdentifier(network)) {
    throw new CniError(
      errorCodes.invalidConfiguration,
      `The network's name ${quote(network)} is not letters, digits, ".", "_" and "-" after a letter or digit`,
    );
  }
  return { network, cniVersion, configuration: object };
}

function checkVersion(command: string, version: string): asserts version is CniVersion {
  const introduced = introducedIn[command];
  if (introduced) {
    const known = isAtLeast(version, introduced);
    if (known === undefined) {
      throw new CniError(errorCodes.undecodable, `The cniVersion ${quote(version)} is not a version`);
    }
    if (!known) {
      throw new CniError(
        errorCodes.incompatibleVersion,
        `${command} needs cniVersion ${introduced} or later, the configuration says "${version}"`,
        { details: `the configuration says "${version}", ${command} came with ${introduced}` },
      );
    }
  }
  if (!isSupported(version)) {
    throw new CniError(errorCodes.incompatibleVersion, `Weft does not speak cniVersion ${quote(version)}`, {
      details: `the configuration says ${quote(version)}, Weft speaks ${supportedVersions.join(', ')}`,
    });
  }
}

function checkRequest(environment: Environment, basics: Basics, stdin: Uint8Array): CniRequest {
  const { command } = environment;
  if (!isCommand(command)) {
    throw new CniError(
      errorCodes.badEnvironment,
      `CNI_COMMAND ${quote(command)} is none of ADD, DEL, CHECK, GC, STATUS and VERSION`,
    );
  }
  const { cniVersion, network, configuration } = basics;
  checkVersion(command, cniVersion);
  return { ...environment, command, network, cniVersion, configuration, stdin };
}

function readStdin(stdio: Stdio, command: string): Uint8Array {
  const limitBytes = configurationLimitBytes(command);
  try {
    return stdio.readStdin(limitBytes);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EFBIG') {
      const limit = `${limitBytes / mebibyte} MiB`;
      throw new CniError(errorCodes.inputOutput, `The network configuration on stdin is larger than ${limit}`, {
        cause: error,
      });
    }
    throw new CniError(errorCodes.inputOutput, 'Cannot read the network configuration from stdin', { cause: error });
  }
}

/**
 * Runs one call. Never throws.
 * @param environment `K=V` entries; CNI_COMMAND is there and is not VERSION
 * @returns the exit status
 */
export async function dispatch(environment: readonly string[], stdio: Stdio, loadVerb: LoadVerb): Promise<number> {
  let cniVersion: string | undefined;
  let isWritable = true;
  const write = (text: string): void => {
    try {
      stdio.writeStdout(`${text}\n`);
    } catch (error) {
      // A part of the document may be there, and a second one would make both unreadable.
      isWritable = false;
      throw new CniError(errorCodes.inputOutput, 'Cannot write the answer to stdout', { cause: error });
    }
  };
  try {
    const checked = readEnvironment(environment);
    const stdin = readStdin(stdio, checked.command);
    const basics = readBasics(stdio.decodeUtf8(stdin));
    if (isSupported(basics.cniVersion)) cniVersion = basics.cniVersion;
    const request = checkRequest(checked, basics, stdin);
    const verb = await loadVerb(request);
    verb(request, write);
    return 0;
  } catch (error) {
    const document = formatError(toCniError(error), cniVersion);
    try {
      if (isWritable) write(document);
    } catch {
      // It goes to stderr instead.
    }
    if (!isWritable) stdio.writeStderr(`${document}\n`);
    return 1;
  }
}
