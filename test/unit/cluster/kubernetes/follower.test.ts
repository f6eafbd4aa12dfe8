import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Clock } from '../../../../cluster/clock.ts';
import { annotationKeys } from '../../../../cluster/kubernetes/annotations.ts';
import type { KubeClient, KubeRequest, Lines } from '../../../../cluster/kubernetes/client.ts';
import { AnswerError, BusyError } from '../../../../cluster/kubernetes/errors.ts';
import { NodeFollower } from '../../../../cluster/kubernetes/follower.ts';
import { type NodeMeta, reduceMeta } from '../../../../cluster/kubernetes/node-object.ts';
import { StoreUnavailableError } from '../../../../cluster/store-errors.ts';

const test = suite('cluster/kubernetes/follower');
const keys = annotationKeys('p/');

const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

const nodeObject = (name: string, version: number) => ({
  metadata: { name, uid: `u-${name}`, resourceVersion: String(version) },
});
const failure = { op: 'x', subject: '', message: 'no answer' };
const away = new StoreUnavailableError({ ...failure, code: 'unavailable' });
const gone = new AnswerError(410, { ...failure, code: 'refused' });

/** An API server whose answers the test gives, and a clock that stands still. */
class Scene {
  nowMs = 0;
  timers: { readonly atMs: number; readonly callback: () => void }[] = [];
  lists: (object | Error)[];
  readonly asked: string[] = [];
  watch: (Lines & { readonly request: KubeRequest; readonly end: (error?: Error) => void }) | undefined;
  readonly heard: string[] = [];
  problems = 0;
  lives = 0;
  size = 0;
  /** Of the store behind the server, as a short list tells it. */
  serverVersion = 1000;
  /** Watches cannot even begin. */
  refusesWatch: Error | undefined;
  readonly follower: NodeFollower<NodeMeta>;

  /** @param lists the first answers */
  constructor(...lists: (object | Error)[]) {
    this.lists = lists;
    const clock: Clock = {
      nowMs: () => this.nowMs,
      setTimer: (callback, delayMs) => {
        const timer = { atMs: this.nowMs + delayMs, callback };
        this.timers.push(timer);
        return {
          cancel: () => {
            this.timers = this.timers.filter((each) => each !== timer);
          },
        };
      },
    };
    const client: Pick<KubeClient, 'ask' | 'follow'> = {
      ask: async ({ path }) => {
        if (/limit=1$/.test(path)) {
          if (this.refusesWatch) throw this.refusesWatch;
          return page(this.serverVersion, []);
        }
        this.asked.push(path);
        const answer = this.lists.shift() ?? away;
        if (answer instanceof Error) throw answer;
        return answer;
      },
      follow: (request, lines) =>
        new Promise((resolve, reject) => {
          this.asked.push(request.path.replace(/timeoutSeconds=\d+/, 'timeoutSeconds=N'));
          if (this.refusesWatch) return reject(this.refusesWatch);
          const end = (error?: Error): void => (error ? reject(error) : resolve());
          this.watch = { ...lines, request, end };
          lines.signal.addEventListener('abort', () => end(new Error('aborted')));
          lines.onStart();
        }),
    };
    this.follower = new NodeFollower<NodeMeta>({
      client,
      clock,
      random: () => 0.5,
      form: 'metadata',
      listForm: () => 'metadata',
      reduce: (object) => reduceMeta(object, keys),
      onList: async (nodes) => {
        this.heard.push(`list ${nodes.map(({ name }) => name).join(' ')}`);
        return true;
      },
      onChange: ({ name }, isDeleted) => void this.heard.push(`${isDeleted ? 'deleted' : 'changed'} ${name}`),
      onLive: () => void this.lives++,
      onProblem: () => void this.problems++,
      size: () => this.size,
      silenceMs: 1000,
      maxBackoffMs: 10_000,
    });
  }

  event(type: string, object: object): void {
    this.watch!.onLine(JSON.stringify({ type, object }));
  }

  /** Lets the next timer end. @returns how long that took */
  async tick(): Promise<number> {
    const next = this.timers.sort((a, b) => a.atMs - b.atMs).shift()!;
    const tookMs = next.atMs - this.nowMs;
    this.nowMs = next.atMs;
    next.callback();
    await settle();
    return tookMs;
  }
}

const page = (version: number, names: readonly string[], more = ''): object => ({
  metadata: { resourceVersion: String(version), continue: more },
  items: names.map((name) => nodeObject(name, version)),
});

/** A scene that has listed node `a` and watches. */
async function watching(): Promise<Scene> {
  const scene = new Scene(page(10, ['a']));
  await settle();
  assert.is(scene.lives, 1);
  return scene;
}

test('lists in pages, then watches from the version of the list', async () => {
  const scene = new Scene(page(10, ['a', 'b'], 'more&x'), page(10, ['c']));
  await settle();
  assert.equal(scene.heard, ['list a b c']);
  assert.equal(scene.asked, [
    '/api/v1/nodes?limit=500',
    '/api/v1/nodes?limit=500&continue=more%26x',
    '/api/v1/nodes?watch=true&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=N',
  ]);
  await scene.follower.fresh();
  scene.follower.close();
});

test('a list that loses its pages begins anew', async () => {
  const scene = new Scene(page(10, ['a'], 'x'), gone, page(12, ['a', 'b']));
  await settle();
  assert.equal(scene.heard, ['list a b']);
  assert.is(scene.follower.version, '12');
  scene.follower.close();
});

test('changes come in order; a bookmark moves the version, and the watch goes on from there after its end', async () => {
  const scene = await watching();
  scene.event('ADDED', nodeObject('b', 11));
  scene.event('DELETED', nodeObject('a', 12));
  scene.event('BOOKMARK', { metadata: { resourceVersion: '40' } });
  scene.event('MODIFIED', { metadata: {} });
  assert.equal(scene.heard.slice(1), ['changed b', 'deleted a']);
  scene.nowMs += 400_000;
  scene.watch!.end();
  await settle();
  assert.match(scene.asked.at(-1)!, /resourceVersion=40/);
  assert.is(scene.problems, 0);
  assert.is(scene.asked.filter((path) => path.includes('limit')).length, 1, 'no new list');
  scene.follower.close();
});

test('a lost watch is no problem if the next attempt succeeds; else it is told once, with growing pauses', async () => {
  const scene = await watching();
  scene.watch!.end(away);
  await settle();
  assert.is(scene.problems, 0);
  await scene.follower.fresh();
  scene.refusesWatch = away;
  assert.is(await scene.tick(), 75);
  assert.is(scene.problems, 1);
  let rejected: unknown;
  await scene.follower.fresh().catch((error: unknown) => {
    rejected = error;
  });
  assert.is(rejected, away);
  const pauses: number[] = [];
  for (let i = 0; i < 9; i++) pauses.push(await scene.tick());
  assert.equal(pauses, [150, 300, 600, 1200, 2400, 4800, 7500, 7500, 7500]);
  assert.is(scene.problems, 1);
  scene.refusesWatch = undefined;
  await scene.tick();
  assert.is(scene.lives, 2);
  await scene.follower.fresh();
  scene.follower.close();
});

test('after 410 everything is listed again, at a time of its own in a large cluster', async () => {
  const scene = await watching();
  scene.size = 5000;
  scene.lists = [page(99, ['z'])];
  assert.throws(() => scene.event('ERROR', { kind: 'Status', code: 410, message: 'too old' }), /too old/);
  scene.watch!.end(gone);
  await settle();
  assert.is(await scene.tick(), 10_000);
  assert.equal(scene.heard, ['list a', 'list z']);
  assert.is(scene.problems, 0);
  scene.follower.close();
});

test('versions that go back, and a server that stays behind, mean a new list', async () => {
  const scene = await watching();
  scene.event('ADDED', nodeObject('b', 90));
  scene.lists = [page(40, ['a'])];
  assert.throws(() => scene.event('BOOKMARK', { metadata: { resourceVersion: '39' } }), /its versions have gone back/);
  scene.watch!.end(gone);
  await settle();
  await scene.tick();
  assert.is(scene.follower.version, '40');
  const ahead = new BusyError(504, undefined, {
    ...failure,
    code: 'timeout',
    message: 'Too large resource version: 40',
  });
  scene.lists = [page(30, ['a'])];
  scene.refusesWatch = ahead;
  scene.watch!.end(away);
  await settle();
  await scene.tick();
  assert.is(scene.follower.version, undefined, 'to be listed');
  scene.refusesWatch = undefined;
  await scene.tick();
  assert.is(scene.follower.version, '30');
  scene.follower.close();
});

test('a server whose store was restored from a backup is listed anew after the loss of the watch', async () => {
  const scene = await watching();
  scene.event('BOOKMARK', { metadata: { resourceVersion: '900' } });
  scene.serverVersion = 300;
  scene.lists = [page(300, ['a'])];
  scene.watch!.end(away);
  await settle();
  await scene.tick();
  assert.is(scene.follower.version, '300');
  assert.is(scene.problems, 0);
  scene.follower.close();
});

test('a busy server is given the time that it wishes', async () => {
  const scene = await watching();
  scene.watch!.end(new BusyError(429, 3000, { ...failure, code: 'unavailable' }));
  await settle();
  assert.is(await scene.tick(), 3750);
  assert.is(scene.lives, 2);
  scene.follower.close();
});

test('an answer that nobody can read is a problem like another, and ends nothing', async () => {
  const scene = new Scene({ kind: 'html' }, page(10, ['a']));
  await settle();
  assert.is(scene.problems, 1);
  await scene.tick();
  assert.equal(scene.heard, ['list a']);
  assert.throws(() => scene.watch!.onLine('<html>'));
  scene.follower.close();
});

test('nothing is asked after the end, and who waits hears of it', async () => {
  const scene = new Scene();
  const waiting = scene.follower.fresh().then(
    () => 'known',
    () => 'closed',
  );
  scene.follower.close();
  assert.is(await waiting, 'closed');
  await settle();
  assert.is(scene.asked.length, 1);
});

test.run();
