import type { Command } from './command.js';
import type { Containerd } from './containerd.js';
import { until } from './wait.js';

/**
 * One event as `ctr events` prints it. Fields have the names of the messages: container_id, id,
 * pid, exit_status, ...
 */
export interface TaskEvent {
  readonly time: string;
  readonly namespace: string;
  readonly topic: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Go prints the time as `2026-11-21 13:09:47.04 +0000 UTC`, then namespace, topic and the event as
 * JSON.
 */
const LINE = /^(\S+ \S+ \S+ \S+) (\S+) (\/\S+) ?(\{.*\})?$/;

export function parseEventLine(line: string): TaskEvent | undefined {
  const match = LINE.exec(line);
  if (match === null) return undefined;
  const [, time = '', namespace = '', topic = '', json] = match;
  return { time, namespace, topic, fields: json === undefined ? {} : JSON.parse(json) };
}

/** Records the daemon's events in the order in which it sends them. */
export class EventLog {
  readonly #daemon: Containerd;
  #command: Command;
  #earlier: TaskEvent[] = [];
  #probes = 0;

  private constructor(daemon: Containerd) {
    this.#daemon = daemon;
    this.#command = daemon.spawnCtr('default', ['events'], { timeoutMs: 3_600_000 });
  }

  /** Subscribes; events published after this resolves are recorded. */
  static async start(daemon: Containerd): Promise<EventLog> {
    const log = new EventLog(daemon);
    try {
      await log.settle();
    } catch (error) {
      await log.stop();
      throw error;
    }
    return log;
  }

  /** Subscribes again after a restart of the daemon; what was recorded stays. */
  async resubscribe(): Promise<void> {
    this.#command.kill();
    await this.#command.result();
    this.#earlier = this.all();
    this.#command = this.#daemon.spawnCtr('default', ['events'], { timeoutMs: 3_600_000 });
    await this.settle();
  }

  /**
   * Waits until everything the daemon has published so far is recorded: what it publishes later
   * comes after it. Nothing tells when a subscription has begun, so labels of a namespace are set
   * until the event of one arrives.
   */
  async settle(): Promise<void> {
    const namespace = `${this.#daemon.marker}-events`;
    await this.#daemon.ctr('default', ['namespaces', 'create', namespace]);
    const seen = this.#command.stdout.length;
    await until('ctr events reports', async () => {
      this.#probes += 1;
      await this.#daemon.ctr('default', ['namespaces', 'label', namespace, `probe=${this.#probes}`]);
      return this.#command.stdout.includes(`/namespaces/update {"name":"${namespace}"`, seen);
    });
  }

  /** Everything so far, in order. */
  all(): TaskEvent[] {
    const lines = this.#command.stdout.split('\n');
    return [...this.#earlier, ...lines.map(parseEventLine).filter((event) => event !== undefined)];
  }

  /** The /tasks/ events of one container so far. */
  of(namespace: string, id: string): TaskEvent[] {
    return this.all().filter(
      (event) =>
        event.namespace === namespace && event.topic.startsWith('/tasks/') && event.fields['container_id'] === id,
    );
  }

  /**
   * Waits until the container has an event of this topic (and `test` accepts it), then returns all
   * its events so far.
   */
  async waitFor(
    container: { readonly namespace: string; readonly id: string },
    topic: string,
    test: (event: TaskEvent) => boolean = () => true,
  ): Promise<TaskEvent[]> {
    const { namespace, id } = container;
    await until(
      `${topic} of ${id}`,
      () => this.of(namespace, id).some((event) => event.topic === topic && test(event)),
      { detail: () => JSON.stringify(this.of(namespace, id), null, 1) },
    );
    return this.of(namespace, id);
  }

  /** Waits until one of several containers has an event of this topic. */
  async waitForTopic(namespace: string, topic: string, ids: readonly string[]): Promise<void> {
    await until(`${topic} of one of ${ids.join(', ')}`, () =>
      ids.some((id) => this.of(namespace, id).some((event) => event.topic === topic)),
    );
  }

  async stop(): Promise<void> {
    this.#command.kill();
    await this.#command.result();
  }
}
