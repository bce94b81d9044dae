/** Work as the engine has it done, by a child of this process. */
import { nodeSpawner } from '../../src/oci/index.js';
import { keeperWork } from '../../src/shim/keeper-work.js';

/** Runs the worker. */
export const runWork = keeperWork({ spawn: nodeSpawner.spawn, inheritedRun: () => undefined }, 'test');
