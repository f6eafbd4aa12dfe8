/** The parts of the gate: for each, the jobs that it consists of. A test file is a job, except that the unit tests are one. */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cargoEnvironment, rustTarget } from '../../build/cargo.mjs';
import { ensureDebian, ensureRust, ensureRustfmt, hasDebian, SetupError } from '../../setup.mjs';
import { flannelEnvironment } from '../flannel/programs.mjs';
import { ensureMachine, runInGuest } from '../guest/machine.mjs';
import { root } from '../import-graph.mjs';
import { findKube } from '../kubernetes/kube.mjs';
import { ensureDebianRoot } from '../runtimes/debian-root.mjs';
import { checks, failure, patternOf, uvuCommand, uvuCount } from './count.mjs';
import { inStartOrder, isMarked, partOf, testFiles } from './files.mjs';
import { run } from './processes.mjs';

const tool = (name) => join(root, 'node_modules', '.bin', name);
const minuteMs = 60_000;

/** A file that takes longer hangs. The longest takes about one minute by itself. */
const fileLimitMs = 5 * minuteMs;
const guestLimitMs = 20 * minuteMs;

/** A part's needs: root, the executables, and other programs' tools. */
const needs = {
  unit: {},
  kernel: { root: true },
  conformance: { root: true, programs: true },
  differential: { root: true, programs: true },
  stress: { root: true, programs: true },
  cluster: { root: true, programs: true },
  kubernetes: { root: true, programs: true },
  flannel: { root: true, programs: true },
  runtimes: { root: true, programs: true },
  soak: { root: true, programs: true, longestMs: Number(process.env.WEFT_SOAK_SECONDS ?? 600) * 1000 + guestLimitMs },
};
/** The parts whose test files are jobs. */
export const filePart = (part) => part in needs;

/** The test files of a part. */
const filesOf = (part) => testFiles().filter((name) => partOf(name) === part);

const buildJob = 'executables';
const kubeJob = 'kubernetes executable';
const cnitoolJob = 'cnitool';
const flannelJob = 'flannel executables';
const runtimesJob = 'container runtimes';
const kubeletsJob = "kubelets' container runtime";

let built = true;
/** Builds what the tests of the executables run. Only its failure counts, unless the part `build` was asked for. */
const executables = (part) => ({
  part,
  name: buildJob,
  uncounted: part !== 'build',
  async run() {
    const count = await checks([process.execPath, ['build.mjs', 'cni', 'weftd', 'weft-bun']]);
    built = count.failed === 0;
    return count;
  },
});

/** cnitool comes as source: in a fresh clone it is compiled while the executables are. */
const cnitool = (part) => ({
  part,
  name: cnitoolJob,
  uncounted: true,
  run: () => checks([process.execPath, ['-e', "import('./setup.mjs').then((setup) => setup.ensureCnitool())"]]),
});

/** Runs test files in one process under Bun. */
async function uvu(names, { environment = {}, longestMs = fileLimitMs, mayBeEmpty = false } = {}) {
  const place = names.length === 1 ? `test/${names[0]}` : `test/${partOf(names[0])}`;
  const [program, ...args] = uvuCommand('test', patternOf(names));
  const env = { ...process.env, NO_COLOR: '1', ...environment };
  return uvuCount(await run(program, args, { env, longestMs, name: place }), place, { mayBeEmpty });
}

/** A job for these test files of one part. */
function testJob(part, names, { name = names[0], after = [], ...options } = {}) {
  const { programs, longestMs } = needs[part];
  return {
    part,
    name,
    alone: names.some((file) => isMarked(file, 'alone')),
    after: [...(programs ? [buildJob, cnitoolJob] : []), ...after],
    uncounted: options.mayBeEmpty === true,
    run: async () =>
      programs && !built
        ? failure(`${name}: the executables could not be built`)
        : await uvu(names, { ...(longestMs && { longestMs }), ...options }),
  };
}

/** A job for each of these files of one part; for unit tests, one for all of them: they take milliseconds each. */
function fileJobs(part, names) {
  if (part === 'unit') return [testJob(part, names, { name: names.length === 1 ? names[0] : 'unit' })];
  if (part === 'conformance') return conformanceJobs(names);
  return names.map((name) => testJob(part, [name]));
}

/**
 * Each file of the conformance part runs twice: with the native programs and with the same bundle under Bun. Both record
 * their calls and the rows that they have shown; the files that are marked `@last` compare the records.
 */
function conformanceJobs(chosen) {
  // One that compares needs the records of all.
  const names = chosen.some((name) => isMarked(name, 'last')) ? filesOf('conformance') : chosen;
  const folder = mkdtempSync(join(tmpdir(), 'weft-conformance-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  for (const host of ['native', 'bun']) mkdirSync(join(folder, host));
  const environment = (name, host) => ({
    WEFT_TEST_HOST: host,
    WEFT_TEST_RECORD: join(folder, host, `${name.split('/').at(-1)}.jsonl`),
  });
  const first = names.filter((name) => !isMarked(name, 'last'));
  const last = names.filter((name) => isMarked(name, 'last'));
  const native = first.map((name) => testJob('conformance', [name], { environment: environment(name, 'native') }));
  if (last.length === 0) return native;
  // Under Bun nothing is asserted on times, so these may run beside others.
  const underBun = first.map((name) => ({
    ...testJob('conformance', [name], {
      name: `${name} under Bun`,
      environment: environment(name, 'bun'),
      mayBeEmpty: true,
    }),
    alone: false,
  }));
  const recorded = [...underBun, ...native].map(({ name }) => name);
  const judges = last.map((name) => {
    const options = { environment: environment(name, 'native'), after: recorded };
    const job = testJob('conformance', [name], options);
    return {
      ...job,
      async run() {
        const count = await job.run();
        const table = /^<table>\n([\s\S]*?)\n<\/table>$/m.exec(count.shown ?? '');
        return { ...count, notes: table ? table[1].split('\n') : [] };
      },
    };
  });
  return [...underBun, ...native, ...judges];
}

/** Whether an executable asks for a dynamic linker: elf(5), a program header of type PT_INTERP. */
function hasInterpreter(path) {
  const elf = readFileSync(path);
  const [offset, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
  const PT_INTERP = 3;
  return Array.from({ length: count }, (_, i) => elf.readUInt32LE(offset + i * size)).includes(PT_INTERP);
}

/** Checks the files of dist/bin: names, size, linkage. */
async function checkExecutables() {
  const count = { passed: 0, failed: 0, output: '' };
  const bin = (name) => join(root, 'dist', 'bin', name);
  const expect = (holds, message) => {
    count[holds ? 'passed' : 'failed'] += 1;
    if (!holds) count.output += `${message}\n`;
  };
  for (const [name, link] of [
    ['weft', 'weft-ipam'],
    ['weftd', 'weftctl'],
  ]) {
    const both = [bin(name), bin(link)].filter((path) => existsSync(path)).map((path) => statSync(path).ino);
    expect(both.length === 2 && both[0] === both[1], `dist/bin/${link} is not the same file as dist/bin/${name}`);
  }
  expect(existsSync(bin('weft')) && statSync(bin('weft')).size <= 4e6, 'dist/bin/weft is larger than 4 MB');
  expect(existsSync(bin('weft')) && !hasInterpreter(bin('weft')), 'dist/bin/weft is not static');
  return count;
}

/** cargo's fmt, clippy and test. They follow the build, which uses the same folder of cargo's. */
async function runtime() {
  const cargo = ensureRust();
  if (!cargo) return failure('There is no cargo to build runtime/ with');
  ensureRustfmt(cargo);
  const options = { cwd: join(root, 'runtime'), env: cargoEnvironment(cargo) };
  const target = ['--locked', '--target', rustTarget(cargo)];
  const count = { passed: 0, failed: 0, skipped: 0, output: '', notes: [] };
  for (const [name, args] of [
    ['fmt', ['--check']],
    ['clippy', [...target, '--quiet', '--all-targets', '--', '-D', 'warnings']],
  ]) {
    if (!(await run(cargo, [name, '--version'], options)).ok) {
      count.skipped += 1;
      count.notes.push(`cargo ${name} skipped: it does not come with ${cargo}`);
      continue;
    }
    const { ok, output } = await run(cargo, [name, ...args], options);
    count[ok ? 'passed' : 'failed'] += 1;
    if (!ok) count.output += output;
  }
  const { ok, output } = await run(cargo, ['test', ...target], options);
  const results = [...output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)];
  const sum = (index) => results.reduce((all, result) => all + Number(result[index]), 0);
  count.passed += sum(1);
  count.failed += Math.max(sum(2), ok && sum(1) > 0 ? 0 : 1);
  count.skipped += sum(3);
  count.output += output;
  return count;
}

async function layers() {
  const { output } = await run(process.execPath, [join('test', 'layers.mjs')]);
  const [, kept, broken] = /(\d+) rules kept, (\d+) broken/.exec(output) ?? [0, 0, 1];
  return { passed: Number(kept), failed: Number(broken), output };
}

/** Runs tests in the guest: one boot, one process for all of them. */
async function guest() {
  const skipped = (reason) => ({ passed: 0, failed: 0, skipped: 1, notes: [`skipped: ${reason}`] });
  let machine;
  try {
    machine = ensureMachine();
    ensureDebian('test');
  } catch (error) {
    if (error instanceof SetupError) return skipped(error.message);
    throw error;
  }
  const made = await checks([process.execPath, ['build.mjs', 'cni', 'weftd']]);
  if (made.failed > 0) return made;
  const names = testFiles().filter((name) => partOf(name) === 'guest' || isMarked(name, 'guest'));
  const { status, output } = await runInGuest(machine, uvuCommand('test', patternOf(names)), {
    // One process writes the records of all files, into the guest's own folder.
    environment: { NO_COLOR: '1', WEFT_TEST_RECORD: '/tmp/records/native/guest.jsonl' },
    timeoutMs: guestLimitMs,
  });
  return uvuCount({ ok: status === 0, output }, 'test/guest');
}

/** Builds a Kubernetes, which takes minutes the first time. Without it none of its tests can run. */
const buildKube = {
  part: 'kubernetes',
  name: kubeJob,
  uncounted: true,
  run: () => checks([process.execPath, [join('test', 'kubernetes', 'kube.mjs')]]),
};

/** With real kubelets, which need a container runtime. */
const needsRuntimes = (name) => name === 'kubernetes/kubelet.test.ts';

/** Each file gets the executable by its path. */
const kubernetesJob = (name) => {
  const options = { after: [kubeJob, ...(needsRuntimes(name) ? [kubeletsJob] : [])] };
  const job = testJob('kubernetes', [name], options);
  return {
    ...job,
    run: () => {
      const kube = findKube();
      return kube && !(needsRuntimes(name) && runtimesMissing.has('all'))
        ? testJob('kubernetes', [name], { environment: { ...flannelEnvironment(), WEFT_TEST_KUBE: kube } }).run()
        : // The reason is told once, by the job that builds or installs it.
          Promise.resolve({ passed: 0, failed: 0, skipped: 1 });
    },
  };
};

/** The files of the part that the gate runs, too; none where no Kubernetes is in the cache. */
const kubernetesInGate = () => (findKube() ? filesOf('kubernetes').filter((name) => !isMarked(name, 'long')) : []);

/** The part's line in a gate that has no Kubernetes. */
const kubernetesLeftOut = {
  part: 'kubernetes',
  name: 'kubernetes',
  run: async () => ({
    passed: 0,
    failed: 0,
    skipped: 1,
    notes: ['skipped: no Kubernetes was built here yet; "npm test -- kubernetes" does it once, in 7 minutes'],
  }),
};

/** Why the part's files cannot run, by the name of the file, or for all of them. */
const runtimesMissing = new Map();
const systemdFile = 'runtimes/systemd.test.ts';

/** Installs the container runtimes, and the host that boots. What is impossible is skipped with the reason. */
const installRuntimes = (names) => ({
  part: 'runtimes',
  name: runtimesJob,
  async run() {
    const needed = [['all', () => ensureDebian('runtimes')]];
    if (names.includes(systemdFile)) {
      needed.push([systemdFile, ensureDebianRoot]);
    }
    for (const [name, ensure] of needed) {
      try {
        ensure();
      } catch (error) {
        if (!(error instanceof SetupError)) throw error;
        runtimesMissing.set(name, error.message);
      }
    }
    const notes = [...runtimesMissing.values()].map((reason) => `skipped: ${reason.trim().split('\n').at(-1)}`);
    return { passed: 0, failed: 0, skipped: notes.length, notes };
  },
});

const runtimesJobFor = (name) => {
  const job = testJob('runtimes', [name], { after: [runtimesJob] });
  return {
    ...job,
    // The reason is told once, by the job that installs them.
    run: async () =>
      runtimesMissing.has('all') || runtimesMissing.has(name) ? { passed: 0, failed: 0 } : await job.run(),
  };
};

/** The files of the part that the gate runs, too; none where the packages are missing. */
const runtimesInGate = () =>
  hasDebian('runtimes') ? filesOf('runtimes').filter((name) => !isMarked(name, 'long')) : [];

/** The part's line in a gate without the packages. */
const runtimesLeftOut = {
  part: 'runtimes',
  name: 'runtimes',
  run: async () => ({
    passed: 0,
    failed: 0,
    skipped: 1,
    notes: ['skipped: container runtimes are not installed here; "npm test -- runtimes" installs Debian\'s'],
  }),
};

/** The parts of which the gate runs some files only, or none. @type {Record<string, () => string[]>} */
export const shortInGate = { kubernetes: kubernetesInGate, runtimes: runtimesInGate };

/** Builds flanneld and flannel's CNI plugin, which takes minutes the first time. */
const buildFlannel = {
  part: 'flannel',
  name: flannelJob,
  uncounted: true,
  // flanneld needs gcc, as the executables do.
  after: [buildJob],
  run: () => checks([process.execPath, [join('test', 'flannel', 'programs.mjs')]]),
};

/** These also run in the gate, with imitations of flannel's programs. */
const flannelFiles = ['flannel-chain', 'migrate', 'mixed', 'swap'].map((name) => `cluster/${name}.test.ts`);

/** The file again, with the programs by their paths. */
const withFlannel = (name) => {
  const options = { name: `${name} with flannel's programs`, after: [flannelJob] };
  const job = testJob('flannel', [name], options);
  return { ...job, run: () => testJob('flannel', [name], { ...options, environment: flannelEnvironment() }).run() };
};

/** The soak's own lines. */
function toldBySoak({ failed, shown = '' }) {
  const told = shown.split('\n').filter((line) => /^ {2}(?!Total|Passed|Skipped|Duration)/.test(line));
  return failed > 0 ? [] : told.map((line) => line.slice(2));
}

const soakJob = (job) => ({
  ...job,
  async run() {
    const count = await job.run();
    return { ...count, notes: toldBySoak(count) };
  },
});

/** The parts in the order of their lines, each with its jobs. @type {Record<string, (files?: string[]) => import('./lanes.mjs').Job[]>} */
export const parts = {
  lint: () => [
    {
      part: 'lint',
      name: 'lint',
      run: () => checks([tool('biome'), ['check', '--colors=off', '--error-on-warnings', '.']]),
    },
  ],
  types: () => [
    { part: 'types', name: 'types', run: () => checks([tool('tsc'), ['-p', 'cni']], [tool('tsc'), ['-p', '.']]) },
  ],
  layers: () => [{ part: 'layers', name: 'layers', run: layers }],
  build: () => [
    executables('build'),
    { part: 'build', name: 'dist/bin', after: [buildJob], run: checkExecutables },
    {
      part: 'build',
      name: 'test/rebuild.mjs',
      after: [buildJob],
      run: () => checks([process.execPath, [join('test', 'rebuild.mjs')]]),
    },
  ],
  runtime: () => [{ part: 'runtime', name: 'cargo', after: [buildJob], run: runtime }],
  unit: (files = filesOf('unit')) => fileJobs('unit', files),
  kernel: (files = filesOf('kernel')) => fileJobs('kernel', files),
  conformance: (files = filesOf('conformance')) => fileJobs('conformance', files),
  differential: (files = filesOf('differential')) => fileJobs('differential', files),
  stress: (files = filesOf('stress')) => fileJobs('stress', files),
  cluster: (files = filesOf('cluster')) => fileJobs('cluster', files),
  kubernetes: (files = filesOf('kubernetes')) =>
    files.length === 0
      ? [kubernetesLeftOut]
      : [
          buildKube,
          ...(files.some(needsRuntimes) ? [{ ...installRuntimes([]), part: 'kubernetes', name: kubeletsJob }] : []),
          ...files.map(kubernetesJob),
        ],
  runtimes: (files = filesOf('runtimes')) =>
    files.length === 0 ? [runtimesLeftOut] : [installRuntimes(files), ...files.map(runtimesJobFor)],
  flannel: () => [buildFlannel, ...flannelFiles.map(withFlannel)],
  guest: () => [{ part: 'guest', name: 'guest', run: guest }],
  soak: (files = filesOf('soak')) => fileJobs('soak', files).map(soakJob),
};

/**
 * Emulated, the guest takes as long as all other parts together; the soak is long on purpose; flannel's programs take
 * minutes to build.
 */
export const byNameOnly = ['flannel', 'guest', 'soak'];

/** The jobs of these parts, and those that they depend on. @param {Map<string, string[] | undefined>} chosen part → its test files, or all */
export function jobsOf(chosen) {
  const refused = process.geteuid?.() === 0 ? [] : [...chosen.keys()].filter((part) => needs[part]?.root);
  const names = [...chosen.keys()].filter((part) => !refused.includes(part));
  if (names.some((part) => needs[part]?.root)) ensureDebian('test');
  const jobs = inStartOrder(names.flatMap((part) => parts[part](chosen.get(part))));
  const programs = names.find((part) => needs[part]?.programs);
  if (programs) {
    jobs.unshift(cnitool(programs));
    if (!names.includes('build')) jobs.unshift(executables(programs));
  }
  // Nearly everything waits for the executables.
  const build = jobs.findIndex(({ name }) => name === buildJob);
  if (build > 0) jobs.unshift(...jobs.splice(build, 1));
  const refusals = refused.map((part) => ({
    part,
    name: part,
    run: async () => failure(`test/${part} makes network namespaces: run it as root`),
  }));
  return [...refusals, ...jobs];
}
