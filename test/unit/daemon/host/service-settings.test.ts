import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseServiceSettings } from '../../../../daemon/host/service-settings.ts';

const test = suite('daemon/host/service-settings');

test('settings of weftd and flanneld are read as systemd reads them, and no others', () => {
  const text = [
    '# WEFTD_NODE=no',
    ';WEFTD_NODE=no',
    '  WEFTD_ETCD_ENDPOINTS="http://10.0.0.1:2379"  ',
    "FLANNELD_IFACE='eth1'",
    'PATH=/evil',
    'WEFTD_NODE=a=b',
    'WEFTD_IP_MASQ=false',
    'WEFTD_IP_MASQ=true',
    'WEFTD_EMPTY=',
    'WEFTD_QUOTE="',
  ].join('\n');
  assert.equal(parseServiceSettings(text), {
    WEFTD_ETCD_ENDPOINTS: 'http://10.0.0.1:2379',
    FLANNELD_IFACE: 'eth1',
    WEFTD_NODE: 'a=b',
    WEFTD_IP_MASQ: 'true',
    WEFTD_EMPTY: '',
    WEFTD_QUOTE: '"',
  });
});

test.run();
