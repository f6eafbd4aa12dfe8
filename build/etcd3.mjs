/**
 * Patches of the etcd client's packages, made while they are bundled. Each contains the text that it replaces, and fails
 * if the package no longer has that text. So somebody looks at every update of the package.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { at, BuildError } from './tools.mjs';

/** Replaces `from` in `source`. @throws BuildError unless `source` contains it exactly once */
function replaceOnce(path, source, from, to) {
  if (source.split(from).length !== 2) {
    throw new BuildError(`Cannot patch "${path}": it does not contain this text exactly once:\n${from}`);
  }
  return source.replace(from, () => to);
}

/** The messages and services of etcd3's .proto files, in the form that `cluster/etcd/protobuf.ts` reads. */
export function etcdSchema() {
  const require = createRequire(createRequire(import.meta.url).resolve('etcd3'));
  const loaderRequire = createRequire(require.resolve('@grpc/proto-loader'));
  const protobuf = loaderRequire('protobufjs');
  const camelCase = loaderRequire('lodash.camelcase');
  const protos = new protobuf.Root();
  protos.loadSync(join(dirname(require.resolve('etcd3')), '..', 'proto', 'rpc.proto'), { keepCase: true }).resolveAll();
  const name = (object) => object.fullName.slice(1);
  const schema = { messages: {}, enums: {}, services: {} };
  const visit = (object) => {
    if (object instanceof protobuf.Enum) {
      schema.enums[name(object)] = Object.fromEntries(
        Object.entries(object.values).map(([key, value]) => [value, key]),
      );
    } else if (object instanceof protobuf.Service) {
      schema.services[name(object)] = object.methodsArray.map((method) => [
        method.name,
        camelCase(method.name),
        name(method.resolvedRequestType),
        name(method.resolvedResponseType),
        method.requestStream === true,
        method.responseStream === true,
      ]);
    } else if (object instanceof protobuf.Type) {
      schema.messages[name(object)] = object.fieldsArray.map((field) => {
        if (field.map) throw new BuildError(`Cannot translate etcd's message "${name(object)}": it has a map`);
        const type = field.resolvedType;
        const kind = type ? (type instanceof protobuf.Enum ? '=' : '.') + name(type) : field.type;
        return [field.id, field.name, kind, field.repeated, ...(field.partOf ? [field.partOf.name] : [])];
      });
    }
    for (const nested of object.nestedArray ?? []) visit(nested);
  };
  visit(protos);
  return schema;
}

/**
 * etcd3 reads its .proto files when it is loaded, from a folder that an executable lacks, and protobufjs then generates
 * programs from them. The build reads them instead, and a small codec of our own encodes the messages.
 */
function inlineProtos(path, source) {
  const codec = JSON.stringify(at('cluster', 'etcd', 'protobuf.ts'));
  const replaced = replaceOnce(
    path,
    source,
    `(0, proto_loader_1.loadSync)(\`\${__dirname}/../proto/rpc.proto\`, {
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
});`,
    `require(${codec}).packageDefinition(${JSON.stringify(etcdSchema())});`,
  );
  return replaceOnce(path, replaced, 'const proto_loader_1 = require("@grpc/proto-loader");', '');
}

/** grpc-js sends an IP address as TLS server name. RFC 6066 forbids that, and newer runtimes refuse it. */
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
    // gRPC needs it only for its debugging services, which Weft does not use.
    build.onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ path }) => ({ path, namespace: 'left-out' }));
    build.onLoad({ filter: /./, namespace: 'left-out' }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is left out`)});`,
    }));
    for (const [filter, patch] of patches) {
      build.onLoad({ filter }, ({ path }) => ({ contents: patch(path, readFileSync(path, 'utf8')), loader: 'js' }));
    }
  },
};
