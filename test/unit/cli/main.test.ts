import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CliHost } from '../../../cli/host.ts';
import { run } from '../../../cli/main.ts';
import type { NodeStatus } from '../../../cluster/status.ts';
import { backends } from '../../../daemon/backends/map.ts';
import { errno } from '../../../linux/errors.ts';
import { sys } from '../../../linux/sys-bun.ts';

const test = suite('weftctl');
const nowMs = Date.parse('2026-01-02T03:04:05Z');

let folder: string;
let server: Server | undefined;
/** `METHOD path` → status and body that the fake weftd answers. */
let answers: Record<string, [status: number, body: unknown]> = {};
let asked: { what: string; body: string }[] = [];

test.before.each(async () => {
  folder = mkdtempSync(join(tmpdir(), 'weft-cli-'));
  answers = {};
  asked = [];
  const listening = createServer((request, response) => {
    let body = '';
    request.on('data', (part) => {
      body += part;
    });
    request.on('end', () => {
      const what = `${request.method} ${request.url}`;
      asked.push({ what, body });
      const [status, answer] = answers[what] ?? [404, { error: `There is no "${what}" here` }];
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer));
    });
  });
  server = listening;
  await new Promise<void>((resolve) => listening.listen(join(folder, 'weftd.sock'), resolve));
});
test.after.each(() => {
  server?.close();
  server?.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
});

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function weftctl(args: string[], more: Partial<CliHost> = {}): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  const status = await run({
    args: args.includes('--run-dir') ? args : ['--run-dir', folder, ...args],
    environment: {},
    program: '/nowhere/bin/weftctl',
    version: '0.1.0',
    stdout: (text) => {
      stdout += text;
    },
    stderr: (text) => {
      stderr += text;
    },
    stdoutIsTerminal: false,
    stdinIsTerminal: true,
    readStdin: async () => '',
    // Files are read; the kernel's interfaces cannot be listed.
    loadSys: async () => ({ ...sys, socket: () => -errno.EPROTONOSUPPORT }),
    nowMs: () => nowMs,
    random: () => 0.5,
    ...more,
  });
  return { status, stdout, stderr };
}

const status: NodeStatus = {
  node: 'node-1',
  version: '0.1.0',
  pid: 1,
  startedAt: '2026-01-02T01:03:05Z',
  state: 'degraded',
  problems: ['etcd does not answer'],
  networks: ['10.5.0.0/16'],
  subnets: ['10.5.52.0/24'],
  publicAddresses: ['192.0.2.1'],
  backend: 'vxlan',
  interface: 'eth0',
  devices: ['flannel.1'],
  mtuBytes: 1450,
  ipMasq: true,
  peerLock: { enabled: true, droppedPackets: 3, droppedBytes: 300 },
  lease: {
    key: '/p/subnets/10.5.52.0-24',
    reservation: false,
    expiresAt: '2026-01-03T03:00:05Z',
    ageSeconds: 3600,
    renewals: 2,
    losses: 0,
  },
  etcd: {
    endpoints: ['http://10.0.0.1:2379'],
    prefix: '/p',
    connected: false,
    lastContact: '2026-01-02T03:03:00Z',
    error: 'x',
    watching: false,
    requests: 100,
    errors: 3,
    medianMs: 2.1,
    worstMs: 40,
    watchLosses: 2,
    watchResyncs: 1,
  },
  changes: {
    programmed: 12,
    healed: 5,
    healedLastHour: 1,
    healedByKind: { route: 5 },
    lastHeal: { what: 'set route "10.5.3.0/24" via "10.5.3.0" on "flannel.1"', at: '2026-01-02T03:04:00Z' },
    failed: 0,
    lastChangeMs: 2.5,
  },
  addresses: [{ subnet: '10.5.52.0/24', used: 3, free: 250 }],
  peers: [
    {
      node: 'node-2',
      subnets: ['10.5.3.0/24'],
      publicAddresses: ['192.0.2.2'],
      backend: 'vxlan',
      alive: true,
      programmed: true,
      path: 'vxlan',
    },
    {
      node: 'node-3',
      subnets: ['10.5.4.0/24'],
      publicAddresses: ['192.0.2.3'],
      backend: 'vxlan',
      alive: false,
      programmed: true,
      path: 'direct',
    },
    {
      subnets: ['10.5.5.0/24'],
      publicAddresses: ['192.0.2.4'],
      backend: 'udp',
      programmed: false,
      path: 'none',
      problem: 'its backend is "udp"',
    },
  ],
};

test('weftctl prints help and version, and refuses wrong words', async () => {
  assert.match((await weftctl(['--help'])).stdout, /^weftctl: .*\n\nUsage: weftctl \[OPTION\]\.\.\. VERB\n/);
  assert.match((await weftctl(['help', 'config', 'set'])).stdout, /Usage: weftctl .* config set \[JSON \| FILE \| -\]/);
  assert.match((await weftctl(['nodes', '-help'])).stdout, /^weftctl nodes: /);
  assert.equal(await weftctl(['--version']), { status: 0, stdout: 'weftctl 0.1.0\n', stderr: '' });
  for (const [args, message] of [
    [['nods'], 'Unknown verb "nods"; did you mean "nodes"?'],
    [['zzz'], 'Unknown verb "zzz"; see "weftctl --help"'],
    [['config'], '"config" needs a verb of its own: get, set or import-v2'],
    [['config', 'sett'], 'Unknown verb "config sett"; did you mean "set"?'],
    [['nodes', '--jsn'], 'Unknown option "--jsn"; did you mean "--json"?'],
    [['nodes', '--force'], 'Option "--force" does not belong to "nodes"'],
    [['nodes', 'more'], 'Unexpected argument "more" for "nodes"'],
    [['config', 'set'], '"config set" needs the document: as JSON, as a file, or - for stdin'],
    [
      ['nodes', '--etcd-endpoints', 'ftp://x'],
      'Option --etcd-endpoints holds "ftp://x": an endpoint has the form "http://10.0.0.1:2379"',
    ],
  ] as const) {
    assert.equal(await weftctl([...args]), { status: 2, stdout: '', stderr: `weftctl: ${message}\n` });
  }
  const bare = await weftctl([]);
  assert.is(bare.status, 2);
  assert.match(bare.stderr, /^weftctl: shows/);
  assert.equal(asked, []);
});

test('status prints a text for people', async () => {
  answers['GET /status'] = [200, status];
  const store = join(folder, 'networks', 'weft');
  mkdirSync(store, { recursive: true });
  const id = 'a'.repeat(64);
  writeFileSync(join(store, '10.5.52.10'), `${id}\r\neth0`);
  writeFileSync(join(store, '10.5.52.9'), 'short\r\neth1');
  writeFileSync(join(store, '10.5.52.11'), '');
  writeFileSync(join(store, 'last_reserved_ip.0'), '10.5.52.10');
  writeFileSync(join(store, 'lock'), '');
  const { status: exit, stdout } = await weftctl(['status', '--data-dir', join(folder, 'networks')]);
  assert.is(exit, 0);
  assert.is(
    stdout,
    `node-1  degraded, weftd 0.1.0, up 2 h 1 min
  etcd does not answer
  Networks    10.5.0.0/16
  Subnets     10.5.52.0/24
  Lease       23 h 56 min left; renewed before that
  Public      192.0.2.1 on eth0
  Backend     vxlan, flannel.1
  Containers  MTU 1450, masqueraded to the outside
  Peer lock   on, 3 packets from strangers dropped
  Addresses   3 used, 250 free of 10.5.52.0/24
  Healed      5 changes since the start, 1 in the last hour
              last 5 s ago: set route "10.5.3.0/24" via "10.5.3.0" on "flannel.1"
  etcd        http://10.0.0.1:2379 /p
              not connected, last heard 1 min 5 s ago

PEER       SUBNET       PUBLIC ADDRESS  PATH    STATE
node-2     10.5.3.0/24  192.0.2.2       vxlan   up
node-3     10.5.4.0/24  192.0.2.3       direct  down, still routed
(flannel)  10.5.5.0/24  192.0.2.4       -       its backend is "udp"

ADDRESS     CONTAINER     INTERFACE  ON THE HOST  NETWORK  STATE
10.5.52.9   short         eth1       -            weft     not known
10.5.52.10  aaaaaaaaaaaa  eth0       -            weft     not known
`,
  );
  const coloured = await weftctl(['status'], { stdoutIsTerminal: true });
  assert.ok(coloured.stdout.includes('\x1b[31mdegraded\x1b[0m'));
  const plain = await weftctl(['status'], { stdoutIsTerminal: true, environment: { NO_COLOR: '1' } });
  assert.not.ok(plain.stdout.includes('\x1b'));
});

test("control characters in containers' names do not reach the terminal", async () => {
  const store = join(folder, 'escapes', 'weft');
  mkdirSync(store, { recursive: true });
  writeFileSync(join(store, '10.5.52.9'), 'id\x1b[31m\r\neth0\x1b]0;x\x07');
  answers['GET /status'] = [200, status];
  const { stdout } = await weftctl(['status', '--data-dir', join(folder, 'escapes')]);
  assert.match(stdout, /10\.5\.52\.9 +id\\u001b\[31m +eth0\\u001b\]0;x\\u0007 /);
  assert.not(stdout.includes('\x1b'));
});

test('status shows how long etcd takes, and that there was no problem so far', async () => {
  const etcd = { ...status.etcd, connected: true, medianMs: 2.1, worstMs: 1234 };
  const changes = { programmed: 3, healed: 0, healedLastHour: 0, healedByKind: {}, failed: 2 };
  answers['GET /status'] = [200, { ...status, state: 'running', problems: [], stuck: '"x" sleeps', etcd, changes }];
  const { stdout } = await weftctl(['status', '--data-dir', join(folder, 'none')]);
  assert.match(stdout, /connected, last heard 1 min 5 s ago; answers in 3 ms, the slowest recent one in 1\.2 s\n/);
  assert.match(stdout, /Healed {6}nothing since the start\n +the kernel refused 2 changes\n/);
  assert.match(stdout, /^ {2}weftd itself is stuck: "x" sleeps; restart it$/m);
});

test('status --json prints the document; without weftd, status is an error', async () => {
  answers['GET /status'] = [200, status];
  const { stdout } = await weftctl(['status', '--json', '--data-dir', join(folder, 'none')]);
  assert.equal(JSON.parse(stdout), { ...status, containers: [] });
  const gone = await weftctl(['status', '--run-dir', join(folder, 'gone')]);
  assert.is(gone.status, 1);
  assert.is(
    gone.stderr,
    `weftctl: Cannot ask weftd on "${folder}/gone/weftd.sock": it is not running; start it, or ask etcd about the cluster with --etcd-endpoints\n`,
  );
});

test('nodes', async () => {
  const nodes = [
    {
      node: 'node-1',
      version: '0.1.0',
      subnets: ['10.5.1.0/24', 'fd00:5:0:1::/64'],
      publicAddresses: ['192.0.2.1'],
      backend: 'vxlan',
      reservation: false,
      alive: true,
      startedAt: '2026-01-01T03:04:05Z',
      health: 'ok',
      containers: 0,
    },
    {
      node: 'node-3',
      subnets: ['10.5.3.0/24'],
      publicAddresses: ['192.0.2.3'],
      backend: 'vxlan',
      reservation: false,
      alive: true,
      health: 'Cannot do something that takes many words to tell: EX',
    },
    { subnets: ['10.5.2.0/24'], publicAddresses: [], backend: '', reservation: true },
  ];
  answers['GET /nodes'] = [200, { nodes, malformed: ['/p/subnets/x: why'] }];
  const { status: exit, stdout, stderr } = await weftctl(['nodes']);
  assert.is(exit, 0);
  assert.is(
    stdout,
    `NODE       SUBNET                PUBLIC ADDRESS  BACKEND  VERSION  STATE     UP FOR  CONTAINERS
node-1     10.5.1.0/24           192.0.2.1       vxlan    0.1.0    up        1 d     0
           fd00:5:0:1::/64
node-3     10.5.3.0/24           192.0.2.3       vxlan    -        degraded  -       -
(flannel)  10.5.2.0/24 reserved  -               -        -        reserved  -       -

node-3: Cannot do something that takes many words to tell: EX
`,
  );
  assert.is(stderr, '\n1 entry in etcd cannot be read:\n  /p/subnets/x: why\n');
  const json = await weftctl(['nodes', '--json']);
  assert.equal(JSON.parse(json.stdout), { nodes, malformed: ['/p/subnets/x: why'] });
  answers['GET /nodes'] = [503, { error: 'Cannot list the leases: no answer in time' }];
  assert.equal(await weftctl(['nodes']), {
    status: 1,
    stdout: '',
    stderr: 'weftctl: Cannot list the leases: no answer in time\n',
  });
});

test('config get', async () => {
  const none = await weftctl(['config', 'get']);
  assert.is(none.status, 1);
  assert.match(none.stderr, /^weftctl: There is no network config yet: write one, such as weftctl config set '\{/);
  answers['GET /config'] = [200, { text: '{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}', modRevision: '7' }];
  assert.is((await weftctl(['config', 'get'])).stdout, '{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}\n');
  assert.equal(JSON.parse((await weftctl(['config', 'get', '--json'])).stdout).config, {
    EnableIPv4: true,
    Network: '10.5.0.0/16',
    SubnetLen: 24,
    SubnetMin: '10.5.1.0',
    SubnetMax: '10.5.255.0',
    EnableIPv6: false,
    EnableNFTables: false,
    Backend: { Type: 'host-gw' },
  });
});

test('config set warns of a backend that flanneld does not have, and of a family that is left out', async () => {
  answers['GET /config'] = [200, { text: '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}', modRevision: '7' }];
  const warnings = async (config: object): Promise<string> =>
    (await weftctl(['config', 'set', '--dry-run', JSON.stringify({ Network: '10.5.0.0/16', ...config })])).stderr;
  assert.is(await warnings({ Backend: { Type: 'gre', Key: 7 } }), `weftctl: ${backends.get('gre')!.warning}\n`);
  assert.match(
    await warnings({ EnableIPv6: true, IPv6Network: 'fd00:5::/48', Backend: { Type: 'ipip' } }),
    /^weftctl: Network config: backend "ipip" carries IPv4 only, so IPv6 is left out; /,
  );
  assert.is(await warnings({ Backend: { Type: 'ipip' } }), '');
  const changed = await weftctl([
    'config',
    'set',
    '--dry-run',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"gre","Key":7}}',
  ]);
  assert.match(changed.stdout, /Backend\.Type: vxlan → gre\n[\s\S]*Backend\.Key: 7\n/);
});

test('config set refuses loopback and multicast networks', async () => {
  for (const network of ['127.0.0.0/8', '224.0.0.0/4', '239.1.0.0/16']) {
    const config = `{"Network":"${network}","Backend":{"Type":"vxlan"}}`;
    const { status, stderr } = await weftctl(['config', 'set', '--dry-run', config]);
    assert.is(status, 1);
    assert.match(
      stderr,
      /^weftctl: Network config: ".*" overlaps the (loopback|multicast) network ".*": choose another/,
    );
  }
});

test('config set reads an argument, a file or stdin, validates it first, and shows the changes', async () => {
  const before = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}';
  const after = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}}';
  answers['GET /config'] = [200, { text: before, modRevision: '7' }];
  answers['PUT /config'] = [200, { text: after, modRevision: '8' }];
  const file = join(folder, 'config.json');
  writeFileSync(file, `${after}\n`);
  const changed = { status: 0, stdout: '  Backend.VNI: 1 → 7\nThe network config is changed.\n', stderr: '' };
  assert.equal(await weftctl(['config', 'set', after]), changed);
  assert.equal(await weftctl(['config', 'set', file]), changed);
  assert.equal(await weftctl(['config', 'set', '-'], { readStdin: async () => after }), changed);
  const piped = { readStdin: async () => after, stdinIsTerminal: false };
  assert.equal(await weftctl(['config', 'set', '--force'], piped), changed);
  const sent = asked.filter(({ what }) => what === 'PUT /config').map(({ body }) => JSON.parse(body));
  assert.equal(sent, [
    ...Array.from({ length: 3 }, () => ({ text: after, expected: '7', force: false })),
    { text: after, expected: '7', force: true },
  ]);

  asked = [];
  const dry = await weftctl(['config', 'set', '--dry-run', after]);
  assert.is(dry.stdout, '  Backend.VNI: 1 → 7\n');
  assert.is((await weftctl(['config', 'set', before])).stdout, 'The network config is unchanged.\n');
  assert.ok(asked.every(({ what }) => what === 'GET /config'));

  asked = [];
  const wrong = await weftctl(['config', 'set', '{"Network":"10.5.0.0/16","SubnetLen":31}']);
  assert.equal(wrong, {
    status: 1,
    stdout: '',
    stderr: 'weftctl: Network config: "SubnetLen" is 31: it must be a whole number from 0 to 30\n',
  });
  const missing = await weftctl(['config', 'set', join(folder, 'none.json')]);
  assert.is(missing.stderr, `weftctl: Cannot read "${folder}/none.json": ENOENT\n`);
  assert.equal(asked, []);

  answers['PUT /config'] = [409, { error: 'Cannot write the network config: no', details: ['a', 'b'] }];
  assert.equal(await weftctl(['config', 'set', after]), {
    status: 1,
    stdout: '',
    stderr: 'weftctl: Cannot write the network config: no\n  a\n  b\n',
  });
});

test('etcd is asked if the command line names it, or if the environment names it and no weftd runs', async () => {
  const dead = 'http://127.0.0.1:1';
  const refused = /^weftctl: Cannot list the (leases|nodes) .* in etcd at http:\/\/127\.0\.0\.1:1: connection refused/;
  // gRPC's deadlines are by the system's clock.
  const clock = { nowMs: () => Date.now() };
  assert.match((await weftctl(['nodes', '--etcd-endpoints', dead], clock)).stderr, refused);
  const environment = { WEFTD_ETCD_ENDPOINTS: dead };
  answers['GET /nodes'] = [200, { nodes: [], malformed: [] }];
  assert.is((await weftctl(['nodes'], { environment })).stdout, 'No node has a subnet yet.\n');
  assert.match(
    (await weftctl(['nodes', '--run-dir', join(folder, 'gone')], { environment, ...clock })).stderr,
    refused,
  );
});

test.run();
