/** Docker names a driver after its socket in this folder. */
export const defaultSocket = '/run/docker/plugins/weft.sock';
