/**
 * flannel's CNI plugin: an imitation of it, made from its formats by a script, and the plugin itself where
 * WEFT_TEST_FLANNEL_CNI names one.
 */

import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** As flannel's: the record is the delegate's configuration, and DEL goes by it. */
const imitation = `#!/bin/bash
set -e
stdin=$(cat)
of() { jq -r "$1" <<<"$stdin"; }
records=$(of '.dataDir // "/var/lib/cni/flannel"')
record=$records/$CNI_CONTAINERID
delegate() {
  for folder in \${CNI_PATH//:/ }; do [ ! -x "$folder/bridge" ] || exec "$folder/bridge" <<<"$1"; done
  exit 1
}
case $CNI_COMMAND in
ADD)
  . "$(of '.subnetFile // "/run/flannel/subnet.env"')"
  network=$(sed -E 's/\\.[0-9]+\\//.0\\//' <<<"$FLANNEL_SUBNET")
  masq=$([ "$FLANNEL_IPMASQ" = true ] && echo false || echo true)
  made=$(jq -cS --arg subnet "$network" --arg dst "$FLANNEL_NETWORK" --argjson mtu "$FLANNEL_MTU" --argjson masq "$masq" '
    {cniVersion, name, type: "bridge", ipMasq: $masq, mtu: $mtu, isGateway: true} + (.delegate // {}) +
    {ipam: ({type: "host-local"} + (.ipam // {}) + {ranges: [[{subnet: $subnet}]], routes: [{dst: $dst}]})}' <<<"$stdin")
  umask 077
  mkdir -p "$records"
  printf %s "$made" >"$record"
  delegate "$made"
  ;;
DEL)
  [ -e "$record" ] || exit 0
  made=$(<"$record")
  rm "$record"
  delegate "$made"
  ;;
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0"]}' ;;
esac
`;

export interface FlannelPlugin {
  readonly name: string;
  readonly isReal: boolean;
  /** Puts the plugin into the folder, as `flannel`. */
  readonly install: (folder: string) => void;
}

/** The imitation, and the plugin itself where there is one; says so where there is none. */
export function flannelPlugins(subject: string): FlannelPlugin[] {
  const imitated: FlannelPlugin = {
    name: "an imitation of flannel's plugin",
    isReal: false,
    install(folder) {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'flannel'), imitation);
      chmodSync(join(folder, 'flannel'), 0o755);
    },
  };
  const path = process.env['WEFT_TEST_FLANNEL_CNI'];
  if (!path) {
    console.log(`\n  ${subject}: not run with flannel's own plugin (WEFT_TEST_FLANNEL_CNI says where there is one)`);
    return [imitated];
  }
  const install = (folder: string): void => {
    mkdirSync(folder, { recursive: true });
    symlinkSync(path, join(folder, 'flannel'));
  };
  return [imitated, { name: "flannel's plugin", isReal: true, install }];
}
