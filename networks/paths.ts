/** Where runtimes have their networks' files by default. */

/** The configurations of networks. */
export const networkConfDir = '/etc/cni/net.d';

/** libcni's folder: it keeps the results of ADDs in `results`. */
export const libcniCacheDir = '/var/lib/cni';
