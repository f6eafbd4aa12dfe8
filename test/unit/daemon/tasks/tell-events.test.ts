import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeEvent } from '../../../../cluster/store.ts';
import { StoreRefusedError, StoreUnavailableError } from '../../../../cluster/store-errors.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { TellEvents } from '../../../../daemon/tasks/tell-events.ts';

const test = suite('daemon/tasks/tell-events');
const minuteMs = 60_000;

class Scene {
  nowMs = 0;
  failure: Error | undefined;
  readonly events: NodeEvent[] = [];
  readonly lines: string[] = [];
  readonly problems: Problems;
  readonly #task: TellEvents;

  constructor() {
    const write = (line: string): void => void this.lines.push(line);
    const logger = openLogger({ level: 'info', format: 'json', write, now: () => 0 });
    this.problems = new Problems(logger, () => this.nowMs);
    this.#task = new TellEvents({
      store: {
        event: async (event) => {
          if (this.failure) throw this.failure;
          this.events.push(event);
        },
      },
      problems: this.problems,
      logger,
      now: () => this.nowMs,
      deadlineMs: 1000,
    });
  }

  async run(afterMs: number): Promise<void> {
    this.nowMs += afterMs;
    await this.#task.run().catch((error: Error) => this.#task.failed(error));
  }
}

test('a lasting problem of this node is shown once, and again before the store forgets it', async () => {
  const scene = new Scene();
  scene.problems.report('external interface', 'No address: give one');
  await scene.run(1000);
  assert.equal(scene.events, [], 'it may end by itself');
  await scene.run(10_000);
  for (let i = 0; i < 3; i++) await scene.run(10_000);
  assert.equal(scene.events, [{ reason: 'ExternalInterface', message: 'No address: give one' }]);
  await scene.run(51 * minuteMs);
  assert.is(scene.events.length, 2);
});

test('no kind is shown more often than every ten minutes, whatever its messages are', async () => {
  const scene = new Scene();
  for (let i = 0; i < 60; i++) {
    scene.problems.report('external interface', `No address: ${i}`);
    await scene.run(30_000);
  }
  assert.ok(scene.events.length <= 4, `${scene.events.length} in half an hour`);
});

test("other nodes' problems, warnings and the store's own troubles are not shown", async () => {
  const scene = new Scene();
  scene.problems.report('kubernetes', 'no answer');
  scene.problems.report('memory', 'no file');
  scene.problems.reportAll('peer', new Map([['x', 'unreachable']]));
  await scene.run(60_000);
  assert.equal(scene.events, []);
});

test('without the right, weftd says so once, and asks seldom; no answer is no such refusal', async () => {
  const scene = new Scene();
  scene.problems.report('device', 'No module');
  const failure = { op: 'x', subject: '', message: 'Cannot create an event: no right' };
  scene.failure = new StoreUnavailableError({ ...failure, code: 'timeout' });
  await scene.run(10_000);
  const linesBefore = scene.lines.length;
  scene.failure = new StoreRefusedError({ ...failure, code: 'denied' });
  for (let i = 0; i < 5; i++) await scene.run(10_000);
  await scene.run(61 * minuteMs);
  assert.is(scene.lines.length, linesBefore + 1);
  assert.match(scene.lines.at(-1)!, /no right; problems of this node are not shown as events/);
  scene.failure = undefined;
  await scene.run(10_000);
  assert.is(scene.events.length, 0, 'not before an hour has passed');
  await scene.run(60 * minuteMs);
  assert.is(scene.events.length, 1);
});

test.run();
