/**
 * The host, as the checks see it. Several checks ask the same questions, so each is answered once. Files and programs of
 * others may be anything: what is read is bounded in size, and what runs is bounded in time.
 */

import { execFile } from 'node:child_process';
import type { NodeStatus, PathSurvey } from '../../cluster/status.ts';
import { isTunnelName } from '../../daemon/backends/map.ts';
import { containerLinks, type HostState } from '../../daemon/host/host-state.ts';
import { readServiceSettings } from '../../daemon/host/service-settings.ts';
import { readText } from '../../linux/files.ts';
import { dumpAddresses, type InterfaceAddress } from '../../linux/netlink/address.ts';
import { type NetlinkConnection, openNetlink } from '../../linux/netlink/connection.ts';
import { dumpLinks, type Link } from '../../linux/netlink/link.ts';
import { dumpRoutes, outgoingInterface, type Route, rta } from '../../linux/netlink/route.ts';
import { tunnelOf } from '../../linux/netlink/tunnel.ts';
import type { VxlanData } from '../../linux/netlink/vxlan.ts';
import { open as openFlag, type Sys, stat } from '../../linux/sys.ts';
import { readSysctl } from '../../linux/sysctl.ts';
import { type NodeNetwork, readNodeFiles } from '../../net/node-file.ts';
import { defaultPaths } from '../../net/paths.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';
import { type Attachment, openAttachmentReader } from '../../reservations/attachments.ts';
import { CliError, type CliHost } from '../host.ts';
import type { Source } from '../source.ts';
import type { ConfigurationFile } from './conflists.ts';
import { readConfigurations } from './conflists.ts';

export interface DoctorPaths {
  readonly runDir: string;
  readonly subnetFile: string;
  /** The plugins' reservations. */
  readonly dataDir: string;
  /** Of the container runtime. */
  readonly confDir: string;
  /** Of the container runtime's plugins: it looks in each, in this order. */
  readonly binDirs: readonly string[];
}

export interface ProgramEnd {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Answers the question when it is asked first, and keeps the answer. */
function once<T>(ask: () => T): () => T {
  let answer: { readonly value: T } | undefined;
  return () => {
    answer ??= { value: ask() };
    return answer.value;
  };
}

/** Larger than any configuration. */
const limitBytes = 1024 * 1024;
const outputBytes = 1024 * 1024;
const programFolders = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const searchPath = programFolders.join(':');

/** Where CNI plugins usually lie. */
export const usualPluginFolders = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];

export class HostView {
  readonly paths: DoctorPaths;
  /** weftctl's own. */
  readonly version: string;
  readonly sys: Sys;
  readonly host: CliHost;
  readonly source: Source;

  constructor(host: CliHost, sys: Sys, source: Source, paths: DoctorPaths) {
    this.host = host;
    this.sys = sys;
    this.source = source;
    this.paths = paths;
    this.version = host.version;
  }

  get nowMs(): number {
    return this.host.nowMs();
  }

  /** weftd's answer, or why there is none. */
  readonly status: () => Promise<NodeStatus | CliError> = once(() =>
    this.source.status().catch((error: unknown) => {
      if (error instanceof CliError) return error;
      throw error;
    }),
  );

  /** What the peers answer now; undefined where weftd cannot ask, or is too old for it. */
  readonly survey: () => Promise<PathSurvey | undefined> = once(async () => {
    if (!(await this.isRunning())) return undefined;
    return this.source.survey().catch((error: unknown) => {
      if (error instanceof CliError) return undefined;
      throw error;
    });
  });

  /** Whether weftd answers. While it does, it repairs most of the data path by itself. */
  async isRunning(): Promise<boolean> {
    return !((await this.status()) instanceof CliError);
  }

  readonly #kernel: () => HostState = once(() => this.#withNetlink((netlink) => readState(netlink)));

  #withNetlink<T>(body: (netlink: NetlinkConnection) => T): T {
    const netlink = openNetlink(this.sys, { receiveBytes: 32_768 });
    try {
      return body(netlink);
    } finally {
      netlink.close();
    }
  }

  /** @throws NetlinkError */
  get kernel(): HostState {
    return this.#kernel();
  }
  get links(): readonly Link[] {
    return this.kernel.links;
  }
  get addresses(): readonly InterfaceAddress[] {
    return this.kernel.addresses;
  }
  /** Of the main table. */
  get routes(): readonly Route[] {
    return this.kernel.routes;
  }

  link(index: number | undefined): Link | undefined {
    return this.links.find((link) => link.index === index);
  }

  /** What weftd wrote for the plugins; undefined without it. */
  readonly node: () => NodeNetwork | undefined = once(() =>
    readNodeFiles(
      this.paths,
      (path) => readText(this.sys, path, limitBytes),
      () => {},
    ),
  );

  get subnets(): readonly Prefix[] {
    return this.node()?.subnets ?? [];
  }
  get networks(): readonly Prefix[] {
    return this.node()?.networks ?? [];
  }

  isInSubnets(prefix: Prefix): boolean {
    return this.subnets.some((subnet) => subnet.length <= prefix.length && prefixContains(subnet, prefix.address));
  }

  /** The bridges and interfaces that lead to containers. */
  readonly containerLinks: () => readonly string[] = once(() => containerLinks(this.kernel, this.subnets));

  /** The interface that leads to the other hosts. */
  async external(): Promise<string | undefined> {
    const status = await this.status();
    if (!(status instanceof CliError) && status.interface !== undefined) return status.interface;
    // The tunnel knows its way also while the interface is down and has no routes.
    const tunnel = this.links.find(({ name, kind }) => kind === 'vxlan' && isTunnelName(name));
    const lower = tunnel && this.link((tunnelOf(tunnel) as VxlanData).lower);
    if (lower) return lower.name;
    const route = this.routes.find(({ destination, type }) => destination.length === 0 && type === rta.RTN_UNICAST);
    return route && this.link(outgoingInterface(route))?.name;
  }

  readonly attachments: () => readonly Attachment[] = once(() =>
    openAttachmentReader(this.sys, this.paths.dataDir).list(),
  );

  /** The runtime's network configurations, in its order. */
  readonly configurations: () => readonly ConfigurationFile[] = once(() =>
    readConfigurations(this.sys, this.paths.confDir),
  );

  /** The settings of weftd's service. */
  readonly serviceSettings: () => Record<string, string> = once(() =>
    readServiceSettings(this.sys, defaultPaths.serviceSettings),
  );

  /** `net.ipv4.ip_forward` as a list; undefined where the kernel has no such setting, or does not tell. */
  sysctl(...path: string[]): string | undefined {
    try {
      return readSysctl(this.sys, path);
    } catch {
      return undefined;
    }
  }

  /** Undefined where there is no such file, or it cannot be read. */
  text(path: string): string | undefined {
    try {
      return readText(this.sys, path, limitBytes);
    } catch {
      return undefined;
    }
  }

  /** The names in a folder, sorted; none of a folder that is missing or cannot be read. */
  names(folder: string): readonly string[] {
    const names = this.sys.getdents(folder);
    return typeof names === 'number' ? [] : names.sort();
  }

  isFile(path: string): boolean {
    const status = this.sys.stat(path);
    return typeof status !== 'number' && (status.mode & stat.S_IFMT) === stat.S_IFREG;
  }

  /** Its first bytes; undefined where it cannot be read. */
  head(path: string, length: number): Uint8Array | undefined {
    const fd = this.sys.open(path, openFlag.O_RDONLY | openFlag.O_NONBLOCK, 0);
    if (fd < 0) return undefined;
    const buffer = new ArrayBuffer(length);
    const got = this.sys.read(fd, buffer, 0, length);
    this.sys.close(fd);
    return got < 0 ? undefined : new Uint8Array(buffer, 0, got);
  }

  /** The path of a program of the host; undefined where it has none. */
  findProgram(name: string): string | undefined {
    return programFolders.map((folder) => `${folder}/${name}`).find((path) => this.isFile(path));
  }

  /** Runs a program to its end. @throws Error where it cannot be started, or does not end in time */
  runProgram(
    path: string,
    args: readonly string[],
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<ProgramEnd> {
    return new Promise((resolve, reject) => {
      const PATH = this.host.environment['PATH'];
      const settings = {
        env: { PATH: PATH === undefined ? searchPath : `${PATH}:${searchPath}` },
        timeout: options.timeoutMs,
        killSignal: 'SIGKILL' as const,
        maxBuffer: outputBytes,
        signal: options.signal,
      };
      const child = execFile(path, args, settings, (error, stdout, stderr) => {
        if (error && typeof error.code !== 'number') {
          const why = error.killed ? `it did not end within ${options.timeoutMs / 1000} s` : error.message;
          reject(new Error(`Cannot run "${path}": ${why}`, { cause: error }));
        } else resolve({ status: error ? Number(error.code) : 0, stdout, stderr });
      });
      child.stdin?.on('error', () => {});
      child.stdin?.end();
    });
  }
}

const mainTable = 254;

const readState = (netlink: NetlinkConnection): HostState => ({
  links: netlink.dump(dumpLinks()),
  addresses: netlink.dump(dumpAddresses()),
  routes: ([4, 6] as const).flatMap((family) => netlink.dump(dumpRoutes({ family, table: mainTable }))),
});
