/**
 * Two changes to the etcd client's packages, made while they are bundled. Each names the text it replaces and fails when
 * that is no longer there, so that an update of the package is looked at.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { BuildError } from './tools.mjs';

/** `source` with `from`, which must be there once, replaced. */
function replaceOnce(path, source, from, to) {
  if (source.split(from).length !== 2) {
    throw new BuildError(`Cannot patch "${path}": it does not have this text just once:\n${from}`);
  }
  return source.replace(from, () => to);
}

/**
 * etcd3 reads its .proto files when it is loaded, from a folder that an executable does not have. They are parsed here
 * instead, and loaded as the JSON that protobufjs makes of them, which is faster, too.
 */
function inlineProtos(path, source) {
  const require = createRequire(path);
  const protobuf = createRequire(require.resolve('@grpc/proto-loader'))('protobufjs');
  const protos = new protobuf.Root();
  protos.loadSync(join(dirname(path), '..', 'proto', 'rpc.proto'), { keepCase: true }).resolveAll();
  return replaceOnce(
    path,
    source,
    `(0, proto_loader_1.loadSync)(\`\${__dirname}/../proto/rpc.proto\`, {`,
    `(0, proto_loader_1.fromJSON)(${JSON.stringify(protos.toJSON())}, {`,
  );
}

/** grpc-js names an IP address as TLS server name, which RFC 6066 forbids and newer runtimes refuse. */
function allowAddresses(path, source) {
  return replaceOnce(
    path,
    source,
    'connectionOptions.servername = remoteHost;',
    "if (!require('node:net').isIP(remoteHost)) connectionOptions.servername = remoteHost;",
  );
}

const patches = [
  [/[\\/]etcd3[\\/]lib[\\/]connection-pool\.js$/, inlineProtos],
  [/[\\/]@grpc[\\/]grpc-js[\\/]build[\\/]src[\\/]channel-credentials\.js$/, allowAddresses],
];

export const etcd3Plugin = {
  name: 'etcd3',
  setup(build) {
    for (const [filter, patch] of patches) {
      build.onLoad({ filter }, ({ path }) => ({ contents: patch(path, readFileSync(path, 'utf8')), loader: 'js' }));
    }
  },
};
