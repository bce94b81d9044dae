/** What a container needs of the session it lives in. */
import type { Logger } from '../base/index.js';
import type { Config } from './config.js';
import type { DeletedProcesses } from './deleted.js';
import type { ExitRouter } from './exits.js';
import type { KeeperLink } from './keeper-link.js';
import type { TaskEvent } from './task-events.js';

export interface ContainerContext {
  readonly namespace: string;
  readonly config: Config;
  /** The daemon runs with debug output: so does the runtime. */
  readonly debug: boolean;
  readonly log: Logger;
  readonly link: KeeperLink;
  readonly exits: ExitRouter;
  readonly deleted: DeletedProcesses;
  /**
   * Where a process's terminal is to be sent; undefined: in a folder of its own.
   * @param name of the process in the keeper
   */
  consolePath(name: string): string | undefined;
  /** Queues an event for the daemon. */
  publish(event: TaskEvent): void;
}
