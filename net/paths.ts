/** Where Weft's files are unless an option or the network configuration names another place. */

export const defaultPaths = {
  /** weftd's files and socket for the plugins and weftctl. Empty after a reboot. */
  runDir: '/run/weft',
  /** weftd's persistent state. It survives a reboot. */
  stateDir: '/var/lib/weft',
  /** flannel's file and place, for plugins that read it. */
  subnetFile: '/run/flannel/subnet.env',
  /** host-local's reservations: `<network>/<address>`. */
  cniDataDir: '/var/lib/cni/networks',
  /** The settings of weftd's service, an EnvironmentFile of systemd. */
  serviceSettings: '/etc/default/weftd',
  /** What flannel's plugin keeps of each container: the configuration that it gave to the plugin which attached it. */
  flannelDataDir: '/var/lib/cni/flannel',
} as const;

/** The node's subnets, MTU and networks, for the plugins (`net/node-file.ts`). */
export const nodeFilePath = (runDir: string): string => `${runDir}/node.json`;

/** weftd's socket. */
export const socketPath = (runDir: string): string => `${runDir}/weftd.sock`;
