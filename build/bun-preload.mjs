/** bunfig.toml has Bun load this first, so that sources run under it as they are, without a build. */

import { plugin } from 'bun';
import { schemaPlugin } from './schema.mjs';

plugin(schemaPlugin);
