/** The versions of the CNI specification. VERSION is answered from here alone, so nothing is imported. */

export const supportedVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof supportedVersions)[number];

/** What is answered where the caller did not say which version it speaks. */
export const latestVersion: CniVersion = '1.1.0';

export const isSupported = (version: string): version is CniVersion =>
  (supportedVersions as readonly string[]).includes(version);

/** `1.1` and `1` are read as Go's library reads them, with zeros for what is missing; undefined if it is no version. */
function parseVersion(text: string): number[] | undefined {
  const parts = text.split('.');
  if (parts.length > 3 || !parts.every((part) => /^[0-9]{1,9}$/.test(part))) return undefined;
  return [0, 1, 2].map((i) => Number(parts[i] ?? 0));
}

/** Whether `version` is `minimum` or later; undefined where it is no version at all. */
export function isAtLeast(version: string, minimum: CniVersion): boolean | undefined {
  const have = parseVersion(version);
  if (!have) return undefined;
  const need = parseVersion(minimum)!;
  for (let i = 0; i < 3; i++) if (have[i] !== need[i]) return have[i]! > need[i]!;
  return true;
}

/**
 * The answer to VERSION. `request` is what came on stdin: whatever it is, VERSION succeeds; where it names the version
 * in use, that is echoed.
 */
export function formatVersions(request: string): string {
  let cniVersion: string = latestVersion;
  try {
    const value = (JSON.parse(request) as { cniVersion?: unknown } | null)?.cniVersion;
    if (typeof value === 'string' && value !== '') cniVersion = value;
  } catch {
    // Nothing came along, or nothing that says a version.
  }
  return JSON.stringify({ cniVersion, supportedVersions });
}
