/** bunfig.toml makes Bun load this first, so that Bun runs the sources without a build. */

import { plugin } from 'bun';
import { schemaPlugin } from './schema.mjs';

plugin(schemaPlugin);
