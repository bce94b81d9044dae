/**
 * A dry start: `node engine.cjs --check` does all that an engine does until it serves a keeper, one
 * that it plays itself, and tells what it is. An upgrade asks for this before the old engine is
 * told to go.
 */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VERSION } from '../base/index.js';
import { binding, LM_MSG_HELLO, LM_MSG_WELCOME, LM_PROTOCOL, MessageSocket } from '../sys/index.js';
import { ConfigFile, loadConfig } from './config.js';
import { Engine } from './engine.js';

/** What a dry start prints, as JSON. */
export interface CheckReport {
  readonly version: string;
  /** Where its code lies, links resolved. */
  readonly directory: string;
  /** The versions of the keepers' messages that it speaks. */
  readonly protocols: readonly number[];
  /** Of Node.js. */
  readonly node: string;
}

/**
 * @throws LaminaError for a configuration that cannot be used; whatever else keeps an engine from
 *   starting
 */
export async function check(): Promise<CheckReport> {
  // A running engine would make do with defaults.
  await loadConfig();
  const [ours, keepers] = binding().socketPair('seqpacket');
  new Engine(await ConfigFile.open()).serve(ours);
  await new Promise<void>((resolve, reject) => {
    const keeper = new MessageSocket({
      fd: keepers,
      onMessage: ({ type }) =>
        type === LM_MSG_WELCOME ? resolve() : reject(new Error('the engine declines a keeper')),
      onClose: () => reject(new Error('the engine leaves a keeper')),
    });
    keeper.send({ type: LM_MSG_HELLO, arg: process.pid });
  });
  return {
    version: VERSION,
    directory: dirname(fileURLToPath(import.meta.url)),
    protocols: [LM_PROTOCOL],
    node: process.version,
  };
}
