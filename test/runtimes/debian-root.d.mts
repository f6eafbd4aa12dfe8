/** The root if it was made before. */
export function findDebianRoot(): string | undefined;
/** The root, made where it is missing. @throws SetupError */
export function ensureDebianRoot(): string;
