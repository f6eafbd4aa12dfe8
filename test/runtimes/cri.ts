/**
 * The part of the Container Runtime Interface, v1, that a kubelet needs for pods' networks: gRPC over a runtime's unix
 * socket. Messages have the fields that the tests read or write, by the numbers of Kubernetes' api.proto.
 */

import { type Client, credentials, makeGenericClientConstructor, type ServiceError } from '@grpc/grpc-js';
import { parse, type Root, type Type } from 'protobufjs';

const proto = `
syntax = "proto3";
package runtime.v1;
message VersionRequest { string version = 1; }
message VersionResponse { string version = 1; string runtime_name = 2; string runtime_version = 3; string runtime_api_version = 4; }
message StatusRequest { bool verbose = 1; }
message StatusResponse { RuntimeStatus status = 1; map<string, string> info = 2; }
message RuntimeStatus { repeated RuntimeCondition conditions = 1; }
message RuntimeCondition { string type = 1; bool status = 2; string reason = 3; string message = 4; }
message PodSandboxMetadata { string name = 1; string uid = 2; string namespace = 3; uint32 attempt = 4; }
message PortMapping { int32 protocol = 1; int32 container_port = 2; int32 host_port = 3; string host_ip = 4; }
message LinuxPodSandboxConfig { string cgroup_parent = 1; }
message PodSandboxConfig {
  PodSandboxMetadata metadata = 1; string hostname = 2; string log_directory = 3; repeated PortMapping port_mappings = 5;
  map<string, string> labels = 6; map<string, string> annotations = 7; LinuxPodSandboxConfig linux = 8;
}
message RunPodSandboxRequest { PodSandboxConfig config = 1; string runtime_handler = 2; }
message RunPodSandboxResponse { string pod_sandbox_id = 1; }
message SandboxRequest { string pod_sandbox_id = 1; bool verbose = 2; }
message Empty {}
message PodSandboxNetworkStatus { string ip = 1; repeated PodIP additional_ips = 2; }
message PodIP { string ip = 1; }
message PodSandboxStatus { string id = 1; PodSandboxMetadata metadata = 2; int32 state = 3; PodSandboxNetworkStatus network = 5; }
message PodSandboxStatusResponse { PodSandboxStatus status = 1; map<string, string> info = 2; }
message ListPodSandboxRequest {}
message PodSandbox { string id = 1; PodSandboxMetadata metadata = 2; int32 state = 3; }
message ListPodSandboxResponse { repeated PodSandbox items = 1; }
`;

/** Each call's request and answer. */
const calls = {
  Version: ['VersionRequest', 'VersionResponse'],
  Status: ['StatusRequest', 'StatusResponse'],
  RunPodSandbox: ['RunPodSandboxRequest', 'RunPodSandboxResponse'],
  StopPodSandbox: ['SandboxRequest', 'Empty'],
  RemovePodSandbox: ['SandboxRequest', 'Empty'],
  PodSandboxStatus: ['SandboxRequest', 'PodSandboxStatusResponse'],
  ListPodSandbox: ['ListPodSandboxRequest', 'ListPodSandboxResponse'],
} as const;
type Call = keyof typeof calls;

export interface PodOptions {
  readonly name: string;
  readonly attempt?: number;
  readonly cgroupParent: string;
  readonly hostPorts?: readonly { readonly hostPort: number; readonly containerPort: number }[];
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Sandbox {
  readonly id: string;
  readonly name: string;
  readonly ready: boolean;
}

export interface SandboxStatus extends Sandbox {
  readonly addresses: readonly string[];
  /** Its network namespace, as a path of the runtime's. */
  readonly netns: string;
  readonly pid: number;
}

interface WireSandbox {
  id: string;
  metadata: { name: string };
  state?: number;
}

const sandboxOf = ({ id, metadata, state = 0 }: WireSandbox): Sandbox => ({
  id,
  name: metadata.name,
  ready: state === 0,
});

export class CriClient {
  readonly #client: Client;

  /** @param socket the path of the runtime's socket */
  constructor(socket: string) {
    const { root } = parse(proto, { keepCase: true }) as { root: Root };
    const type = (name: string): Type => root.lookupType(`runtime.v1.${name}`);
    const definition = Object.fromEntries(
      Object.entries(calls).map(([name, [request, answer]]) => [
        name,
        {
          path: `/runtime.v1.RuntimeService/${name}`,
          requestStream: false,
          responseStream: false,
          requestSerialize: (value: object) => Buffer.from(type(request).encode(type(request).create(value)).finish()),
          requestDeserialize: (bytes: Buffer) => type(request).decode(bytes),
          responseSerialize: (value: object) => Buffer.from(type(answer).encode(value).finish()),
          responseDeserialize: (bytes: Buffer) => type(answer).toObject(type(answer).decode(bytes), { arrays: true }),
        },
      ]),
    );
    const Runtime = makeGenericClientConstructor(definition, 'RuntimeService');
    // A name for the authority: of a unix socket's path none can be made.
    const options = { 'grpc.default_authority': 'localhost', 'grpc.initial_reconnect_backoff_ms': 100 };
    this.#client = new Runtime(`unix:${socket}`, credentials.createInsecure(), options);
  }

  async #call<T>(name: Call, request: object): Promise<T> {
    const methods = this.#client as unknown as Record<
      Call,
      (request: object, options: { deadline: number }, done: (error: ServiceError | null, answer: T) => void) => void
    >;
    return await new Promise((resolve, reject) => {
      methods[name].call(this.#client, request, { deadline: Date.now() + 60_000 }, (error, answer) => {
        if (error) reject(new Error(`CRI ${name}: ${error.message}`, { cause: error }));
        else resolve(answer);
      });
    });
  }

  async version(): Promise<string> {
    const { runtime_name, runtime_version } = await this.#call<Record<string, string>>('Version', { version: 'v1' });
    return `${runtime_name} ${runtime_version}`;
  }

  /** The runtime's conditions that do not hold, with what it says. */
  async unready(): Promise<string[]> {
    interface Answer {
      status: { conditions: { type: string; status?: boolean; message?: string }[] };
    }
    const { status } = await this.#call<Answer>('Status', {});
    return status.conditions.filter((condition) => !condition.status).map(({ type, message }) => `${type}: ${message}`);
  }

  /** Starts a pod and gives its id. */
  async runPod({ name, attempt = 0, cgroupParent, hostPorts = [], annotations = {} }: PodOptions): Promise<string> {
    const config = {
      metadata: { name, uid: `uid-${name}`, namespace: 'default', attempt },
      hostname: name,
      port_mappings: hostPorts.map(({ hostPort, containerPort }) => ({
        host_port: hostPort,
        container_port: containerPort,
      })),
      annotations,
      linux: { cgroup_parent: cgroupParent },
    };
    return (await this.#call<{ pod_sandbox_id: string }>('RunPodSandbox', { config })).pod_sandbox_id;
  }

  /** As the kubelet does: stop, then remove. */
  async removePod(id: string): Promise<void> {
    await this.#call('StopPodSandbox', { pod_sandbox_id: id });
    await this.#call('RemovePodSandbox', { pod_sandbox_id: id });
  }

  async pods(): Promise<Sandbox[]> {
    return (await this.#call<{ items: WireSandbox[] }>('ListPodSandbox', {})).items.map(sandboxOf);
  }

  async pod(id: string): Promise<SandboxStatus> {
    interface Answer {
      status: WireSandbox & { network?: { ip?: string; additional_ips?: { ip: string }[] } };
      info: { info: string };
    }
    const { status, info } = await this.#call<Answer>('PodSandboxStatus', { pod_sandbox_id: id, verbose: true });
    interface Info {
      pid: number;
      runtimeSpec: { linux: { namespaces: { type: string; path?: string }[] } };
    }
    const { pid, runtimeSpec } = JSON.parse(info.info) as Info;
    const { ip, additional_ips = [] } = status.network ?? {};
    return {
      ...sandboxOf(status),
      addresses: [...(ip ? [ip] : []), ...additional_ips.map((further) => further.ip)],
      // /var/run is an absolute link, which would leave the machine's files.
      netns: (runtimeSpec.linux.namespaces.find(({ type }) => type === 'network')?.path ?? '').replace(/^\/var/, ''),
      pid,
    };
  }

  close(): void {
    this.#client.close();
  }
}
