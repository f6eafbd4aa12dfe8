/** Paths of the project's programs and examples, and of the reference's plugins. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** A built program. */
export const program = (name: string): string => join(root, 'dist/bin', name);

export const exampleConflist = join(root, 'examples/10-weft.conflist');
export const exampleConfig = join(root, 'examples/network-config.json');

/** The reference's plugins, for chains and for comparison. */
export const referenceFolder = process.env['WEFT_TEST_REFERENCE'] ?? '/usr/lib/cni';
