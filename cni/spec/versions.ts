/** The versions of the CNI specification. VERSION needs only this file, so it imports nothing. */

export const supportedVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof supportedVersions)[number];

/** The version of an answer if the caller named none. */
export const latestVersion: CniVersion = '1.1.0';

export const isSupported = (version: string): version is CniVersion =>
  (supportedVersions as readonly string[]).includes(version);

/** Parses `1.1` and `1` as Go's library does, with zeros for the missing numbers; undefined if it is no version. */
function parseVersion(text: string): number[] | undefined {
  const parts = text.split('.');
  if (parts.length > 3 || !parts.every((part) => /^[0-9]{1,9}$/.test(part))) return undefined;
  return [0, 1, 2].map((i) => Number(parts[i] ?? 0));
}

/** Whether `version` is `minimum` or later; undefined if it is no version. */
export function isAtLeast(version: string, minimum: CniVersion): boolean | undefined {
  const have = parseVersion(version);
  if (!have) return undefined;
  const need = parseVersion(minimum)!;
  for (let i = 0; i < 3; i++) if (have[i] !== need[i]) return have[i]! > need[i]!;
  return true;
}

/**
 * The answer to VERSION. `request` is the text from stdin. VERSION succeeds with any text, and echoes the version that
 * it names.
 */
export function formatVersions(request: string): string {
  let cniVersion: string = latestVersion;
  try {
    const value = (JSON.parse(request) as { cniVersion?: unknown } | null)?.cniVersion;
    if (typeof value === 'string' && value !== '') cniVersion = value;
  } catch {
    // The request is empty, or names no version.
  }
  return JSON.stringify({ cniVersion, supportedVersions });
}
