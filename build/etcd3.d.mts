import type { Plugin } from 'esbuild';
import type { ProtocolSchema } from '../cluster/etcd/protobuf.ts';

export function etcdSchema(): ProtocolSchema;
export const etcd3Plugin: Plugin;
