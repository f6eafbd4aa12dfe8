/** Asks etcd whether it lets us write, without writing: for people who install a node. */

import { EtcdCalls } from './calls.ts';
import { type ConnectionOptions, EtcdConnection } from './connection.ts';
import { keysBelow, rightsBelow } from './keys.ts';
import { isAbsent, put } from './requests.ts';

/**
 * A transaction whose two conditions exclude each other changes nothing. etcd checks the rights for all of its parts
 * before it looks at the conditions (checkTxnAuth, server/etcdserver/apply_auth.go).
 * @throws StoreError: the right that is missing, with the command that grants it
 */
export async function checkWriteRights(options: ConnectionOptions): Promise<void> {
  const connection = new EtcdConnection(options);
  const calls = new EtcdCalls(connection);
  const { writeLeases, writeNodes } = rightsBelow(keysBelow(options.etcd.prefix));
  try {
    for (const right of [writeLeases, writeNodes]) {
      const key = `${right.key}weftctl-install`;
      const exists = { ...isAbsent(key), result: 'Greater' } as const;
      await calls.transact({
        op: 'check the rights',
        subject: key,
        right,
        compare: [isAbsent(key), exists],
        success: [put(key, '', '0')],
      });
    }
  } finally {
    connection.close();
  }
}
