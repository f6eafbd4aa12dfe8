import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { dispatch } from '../../../../cni/spec/dispatch.ts';
import { CniError } from '../../../../cni/spec/errors.ts';
import type { CniRequest, Verb } from '../../../../cni/spec/request.ts';
import { SyscallError } from '../../../../linux/errors.ts';

const test = suite('cni/spec/dispatch');

const whole = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'id',
  CNI_NETNS: '/run/netns/x',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt',
};

interface Call {
  environment?: Record<string, string>;
  stdin?: unknown;
  verb?: Verb;
  /** What fails on stdout. */
  brokenStdout?: Error;
}

/** What the last call wrote to stderr, and the limits that stdin was read with. */
let stderr = '';
const limits: number[] = [];

async function run(call: Call) {
  const { environment = {}, stdin = { name: 'net', cniVersion: '1.1.0' }, verb = () => undefined, brokenStdout } = call;
  const out: string[] = [];
  const errors: string[] = [];
  const entries = Object.entries({ ...whole, ...environment }).map(([name, value]) => `${name}=${value}`);
  let loaded = false;
  const status = await dispatch(
    entries,
    {
      readStdin: (limitBytes) => {
        limits.push(limitBytes);
        if (stdin instanceof Error) throw stdin;
        return new TextEncoder().encode(typeof stdin === 'string' ? stdin : JSON.stringify(stdin));
      },
      decodeUtf8: (bytes) => new TextDecoder().decode(bytes),
      writeStdout: (text) => {
        if (brokenStdout) throw brokenStdout;
        out.push(text);
      },
      writeStderr: (text) => errors.push(text),
    },
    async () => {
      loaded = true;
      return verb;
    },
  );
  assert.ok(out.length <= 1, 'at most one document');
  stderr = errors.join('');
  const document = out[0] === undefined ? undefined : JSON.parse(out[0]);
  assert.is(out.length === 0 || out[0]!.endsWith('}\n'), true);
  return { status, document, loaded };
}

async function fails(code: number, call: Call, message: RegExp = /./) {
  const { status, document, loaded } = await run(call);
  assert.is(status, 1);
  assert.is(document.code, code, JSON.stringify(document));
  assert.match(document.msg, message);
  assert.type(document.details, 'string');
  assert.type(document.cniVersion, 'string');
  if (!call.verb) assert.not(loaded, 'the verb is not loaded for what is wrong before it');
  return document;
}

test('the result is printed, and nothing if there is none', async () => {
  assert.equal(await run({ verb: (_request, deliver) => deliver('{"a":1}') }), {
    status: 0,
    document: { a: 1 },
    loaded: true,
  });
  assert.equal(await run({}), { status: 0, document: undefined, loaded: true });
});

test('a verb hears that its answer cannot be written, and the error goes to stderr', async () => {
  const undone: unknown[] = [];
  const { status, document } = await run({
    brokenStdout: new SyscallError('write stdout', 28),
    verb: (_request, deliver) => {
      try {
        deliver('{"a":1}');
      } catch (error) {
        undone.push(error);
        throw error;
      }
    },
  });
  assert.is(status, 1);
  assert.is(document, undefined);
  assert.is(undone.length, 1);
  const { code, msg, details } = JSON.parse(stderr);
  assert.is(code, 5);
  assert.is(msg, 'Cannot write the answer to stdout');
  assert.match(details, /ENOSPC/);
  assert.is((await run({ brokenStdout: new Error('x'), stdin: '' })).status, 1);
  assert.match(stderr, /nothing came on stdin/);
});

test('a configuration has a limit, which is larger for GC', async () => {
  limits.length = 0;
  await fails(5, { stdin: new SyscallError('read stdin', 27) }, /on stdin is larger than 2 MiB/);
  const environment = { CNI_COMMAND: 'GC' };
  await fails(5, { stdin: new SyscallError('read stdin', 27), environment }, /on stdin is larger than 16 MiB/);
  assert.equal(limits, [2 << 20, 16 << 20]);
});

test('memory or stack that runs out is not called a wrong configuration', async () => {
  const parse = JSON.parse;
  for (const [message, told] of [
    ['out of memory', /Memory has run out/],
    ['Maximum call stack size exceeded', /nested too deeply/],
  ] as const) {
    const spent = (text: string) => {
      if (text !== 'spent') return parse(text);
      throw new RangeError(message);
    };
    JSON.parse = spent;
    try {
      await fails(6, { stdin: 'spent' }, told);
    } finally {
      JSON.parse = parse;
    }
  }
});

test('the request carries what the protocol says', async () => {
  let seen: CniRequest | undefined;
  await run({
    stdin: { NAME: 'net', CNIVersion: '0.4.0', more: 1 },
    verb: (request) => {
      seen = request;
      return undefined;
    },
  });
  assert.is(seen?.network, 'net');
  assert.is(seen?.cniVersion, '0.4.0');
  assert.is(seen?.containerId, 'id');
  assert.is(seen?.configuration['more'], 1);
});

test('checks run in the order of the protocol', async () => {
  const unreadable = new SyscallError('read stdin', 5);
  await fails(4, { environment: { CNI_CONTAINERID: '%%', CNI_IFNAME: '' }, stdin: unreadable }, /%%/);
  await fails(4, { environment: { CNI_IFNAME: '', CNI_PATH: '' }, stdin: unreadable }, /CNI_IFNAME, CNI_PATH/);
  await fails(5, { stdin: unreadable, environment: { CNI_COMMAND: 'NONSENSE' } }, /stdin/);
  await fails(6, { stdin: '', environment: { CNI_COMMAND: 'NONSENSE' } }, /nothing came on stdin/);
  await fails(6, { stdin: '{' }, /not JSON/);
  await fails(6, { stdin: '[]' }, /not a JSON object/);
  await fails(6, { stdin: 'null' }, /not a JSON object/);
  await fails(7, { stdin: { cniVersion: '9.9.9' }, environment: { CNI_COMMAND: 'NONSENSE' } }, /no "name"/);
  await fails(4, { stdin: { name: 'n', cniVersion: '9.9.9' }, environment: { CNI_COMMAND: 'NONSENSE' } }, /NONSENSE/);
  await fails(1, { stdin: { name: 'n', cniVersion: '9.9.9' } }, /9\.9\.9/);
});

test('name and version are checked', async () => {
  await fails(7, { stdin: { name: 'a b' } }, /"a b"/);
  await fails(7, { stdin: { name: '' } });
  await fails(7, { stdin: { name: null } });
  await fails(6, { stdin: { name: 4 } }, /"name" must be a string, but is 4/);
  await fails(6, { stdin: { name: 'n', cniVersion: 1.1 } }, /"cniVersion"/);
  for (const cniVersion of ['9.9.9', '1.0', '0.4.1', 'asdf']) {
    const { details } = await fails(1, { stdin: { name: 'n', cniVersion } });
    assert.match(details, /0\.1\.0, 0\.2\.0, 0\.3\.0, 0\.3\.1, 0\.4\.0, 1\.0\.0, 1\.1\.0/);
  }
  for (const cniVersion of [undefined, '', null]) {
    await run({
      stdin: { name: 'n', cniVersion },
      verb: ({ cniVersion: used }) => {
        assert.is(used, '0.1.0');
        return undefined;
      },
    });
  }
});

test('a command is refused at versions that do not have it', async () => {
  const at = (CNI_COMMAND: string, cniVersion: string) => ({
    environment: { CNI_COMMAND },
    stdin: { name: 'n', cniVersion },
  });
  await fails(1, at('CHECK', '0.3.1'), /CHECK needs cniVersion 0\.4\.0/);
  await fails(1, at('CHECK', '1.2.0'));
  await fails(6, at('CHECK', 'asdf'));
  await fails(1, at('GC', '1.0.0'), /GC needs cniVersion 1\.1\.0/);
  await fails(1, at('STATUS', '0.4.0'));
  assert.is((await run(at('CHECK', '0.4.0'))).status, 0);
  assert.is((await run(at('GC', '1.1.0'))).status, 0);
});

test('an error carries the version of the configuration, or the latest', async () => {
  const broken = (): never => {
    throw new CniError(11, 'wait');
  };
  assert.is((await fails(11, { stdin: { name: 'n', cniVersion: '0.3.1' }, verb: broken })).cniVersion, '0.3.1');
  assert.is((await fails(6, { stdin: '' })).cniVersion, '1.1.0');
});

test('every error becomes a document', async () => {
  const throwing = (error: unknown) => ({
    verb: () => {
      throw error;
    },
  });
  await fails(108, throwing(new SyscallError('open "/x"', 28)), /Cannot open "\/x": ENOSPC/);
  await fails(113, throwing(new SyscallError('enter', 1)), /run as root/);
  await fails(999, throwing(new TypeError('x is undefined')), /please report it: TypeError: x is undefined/);
  await fails(999, throwing('a text'), /a text/);
  const wrapped = await fails(
    103,
    throwing(new CniError(103, 'store', { cause: new Error('a', { cause: new Error('b') }) })),
  );
  assert.is(wrapped.details, 'a: b');
});

test('the document of a delegate is passed on unchanged', async () => {
  const document = { cniVersion: '0.4.0', code: 77, msg: 'm', details: 'd', more: [1] };
  const { document: seen } = await run({
    verb: () => {
      throw new CniError(77, 'm', { document: JSON.stringify(document) });
    },
  });
  assert.equal(seen, document);
});

test.run();
