/** The descriptions of `install` and `uninstall`. */

import type { OptionSpec } from '../../command/options.ts';
import type { Verb } from '../verb.ts';

const option = (name: string, help: string, more: Partial<OptionSpec> = {}): OptionSpec => ({
  name,
  kind: 'flag',
  help,
  commandLineOnly: true,
  ...more,
});

const text = (name: string, placeholder: string, help: string, byDefault?: string): OptionSpec =>
  option(name, help, { kind: 'text', placeholder, ...(byDefault === undefined ? {} : { byDefault }) });

export const installVerbs: readonly Verb[] = [
  {
    name: 'install',
    usage: '',
    summary: 'make this host a node: plugins, weftd, its service, the network configuration',
    description: `Run it as root from an unpacked release. It asks the container runtime for its folders and etcd for the rights that
weftd needs, and changes nothing if etcd refuses. Then it puts all files, starts weftd and says why it waits. When
containers can start, the network configuration comes first in the runtime's folder, under the name of the network
that was there; the old file is set aside. Run again, it upgrades. What it did is in /var/lib/weft/install.json.

With --plugins it puts weft, weft-ipam, flannel and loopback into the runtime's folder, and portmap if it is beside
them, and nothing else. Every name has the old file or the new one at any time. It leaves a newer file and another
package's file alone and says so. With --conflist, that network configuration follows as the last step.`,
    options: [
      option('plugins', 'put the plugins in place, and nothing else'),
      text('bin-dir', 'DIR', "the runtime's folder of plugins", 'as the runtime says; with --plugins: /opt/cni/bin'),
      text(
        'conf-dir',
        'DIR',
        "the runtime's folder of networks",
        'as the runtime says; with --plugins: /etc/cni/net.d',
      ),
      text('conflist', 'FILE', 'with --plugins: put this network configuration there', 'none'),
      text('program-dir', 'DIR', 'the folder of weftd and weftctl', '/usr/local/bin'),
      text('from', 'DIR', 'take the files from this folder', "weftctl's own release"),
      text('cri-socket', 'PATH', 'ask the container runtime on this socket', 'containerd, CRI-O, k3s'),
      option('docker', "give Docker's own bridge this node's subnet instead of installing plugins (on a Docker host)"),
      option('ip-masq', "masquerade packets that leave the cluster's network (true)"),
      option('set', 'a setting of weftd, such as iface=eth1; may be given several times', {
        kind: 'list',
        placeholder: 'NAME=VALUE',
      }),
      option('timeout', 'how long to wait for weftd; 0: without end', {
        kind: 'integer',
        placeholder: 'SECONDS',
        byDefault: '120',
        lowest: 0,
        highest: 86_400,
      }),
      text('root', 'DIR', 'install into an image: all other folders are below this one', '/'),
      option('force', "replace newer files and other packages' files, too"),
      option('dry-run', 'say what would be done and do nothing'),
    ],
    most: 0,
    load: () => import('./install.ts'),
  },
  {
    name: 'uninstall',
    usage: '',
    summary: 'undo "weftctl install": this host is as it was before',
    description: `Refuses while containers of Weft's network live on this host, and says which. Then it disables weftd, gives the subnet
back, brings the runtime's former network back, and removes interfaces, rules and files. Kernel settings go back if Weft
changed them, nobody has changed them since, and nothing else on the host needs them. A file that somebody has changed
stays and is named. It undoes what /var/lib/weft/install.json records.`,
    options: [
      option('plugins', 'only what "install --plugins" has put there'),
      text('bin-dir', 'DIR', "with --plugins: the runtime's folder of plugins", '/opt/cni/bin'),
      text('conf-dir', 'DIR', "with --plugins: the runtime's folder of networks", '/etc/cni/net.d'),
      text('conflist', 'FILE', 'with --plugins: remove the network configuration of this name', 'none'),
      text('data-dir', 'DIR', "with --plugins: the folder of the plugins' address store", '/var/lib/cni/networks'),
      option('stay', 'with --plugins: wait to be stopped afterwards, for a pod that cleans a node'),
      option('drain-first', "stop the containers of Weft's network by their runtime first"),
      option('force', 'go on while containers live: they lose their network'),
      option('local', "do not ask etcd: the subnet's lease there ends by itself"),
      text('root', 'DIR', 'uninstall from an image', '/'),
      option('dry-run', 'say what would be done and do nothing'),
    ],
    most: 0,
    load: () => import('./uninstall.ts'),
  },
];
