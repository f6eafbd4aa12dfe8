/**
 * `import validate from './x.schema.json?validator'` is a function that checks a value against that JSON schema: ajv's
 * standalone code, generated at build time. esbuild uses a plugin for that; Bun, for tests on the sources, the same code
 * in a preload. The schemas are written so that ajv generates little code: reading the program is a quarter of an ADD.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, resolve } from 'node:path';
import { BuildError, root } from './tools.mjs';

const filter = /\.json\?validator$/;

/**
 * The JavaScript module for the schema in `path`. It imports ajv's small helpers if it needs them, and nothing else. Its
 * errors have instancePath, keyword and params.
 */
export function validatorCode(path) {
  const require = createRequire(import.meta.url);
  const Ajv = require('ajv').default;
  const standaloneCode = require('ajv/dist/standalone').default;
  const ajv = new Ajv({
    allErrors: false,
    strict: true,
    allowUnionTypes: true,
    // Lengths in UTF-16 units, as the language counts them, need no helper. ajv logs a warning about it.
    unicode: false,
    logger: false,
    messages: false,
    // One function per shared definition.
    inlineRefs: false,
    code: { source: true, esm: true },
  });
  let code = standaloneCode(ajv, ajv.compile(JSON.parse(readFileSync(path, 'utf8'))));
  let helpers = '';
  code = code.replace(/const (\w+) = require\("(ajv\/dist\/runtime\/\w+)"\)\.default;/g, (_, name, module) => {
    helpers += `import * as ${name}Module from ${JSON.stringify(module)};\n`;
    return `const ${name} = ${name}Module.default?.default ?? ${name}Module.default;`;
  });
  // A literal is compiled at build time, too. The patterns contain letters only.
  code = code.replace(/\bnew RegExp\("([\w^$|()-]+)", "u?"\)/g, '/$1/');
  // The path of each rule in the schema: unused, and a third of the code.
  code = code.replace(/\bschemaPath:"[^"\\]*",/g, '');
  // Parameters that only a schema with data references reads.
  code = code.replace(/, ?parentData, ?parentDataProperty, ?rootData=data(?=\b)/g, '');
  code = code.replace(/, ?parentData:[\w.[\]]+, ?parentDataProperty:[\w"]+, ?rootData\b/g, '');
  // Each rule returns its error by the same few lines: a function takes their place.
  const refusal =
    /(\w+)\.errors = \[\{(instancePath(?::[^\]]*?)?),keyword:("\w+"),params:(\{[^}]*\})\}\];\s*return false;/g;
  code = code.replace(refusal, (_, name, path, keyword, params) => {
    return `return refuse(${name}, ${path.replace('instancePath:', '')}, ${keyword}, ${params});`;
  });
  helpers += `function refuse(validate, instancePath, keyword, params) {
    validate.errors = [{ instancePath, keyword, params }];
    return false;
  }\n`;
  const forbidden = /\brequire\(|\beval\(|\bnew Function\b/.exec(code);
  if (forbidden) throw new BuildError(`The validator of "${path}" would need "${forbidden[0]}" at run time`);
  return helpers + code;
}

/** For esbuild, and for Bun's `plugin`, which has the same interface. */
export const schemaPlugin = {
  name: 'schema',
  setup(build) {
    build.onResolve({ filter }, ({ path, importer, resolveDir }) => ({
      path: resolve(resolveDir ?? dirname(importer), path.slice(0, path.indexOf('?'))),
      namespace: 'schema',
    }));
    build.onLoad({ filter: /./, namespace: 'schema' }, ({ path }) => ({
      contents: validatorCode(path),
      loader: 'js',
      resolveDir: root,
      watchFiles: [path],
    }));
  },
};
