/**
 * An addon for the engine that counts, by type, what a keeper replays to it: that is what the
 * keeper keeps.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as sys from '../../../src/sys/index.js';
import { until } from '../../lib/wait.js';

function source(addon: string, dir: string): string {
  return `
const { renameSync, writeFileSync } = require('node:fs');
const real = require(${JSON.stringify(addon)});
const dir = ${JSON.stringify(dir)};
const links = new Map();
module.exports = Object.create(real, {
  recvMessage: {
    value(fd, size) {
      const message = real.recvMessage(fd, size);
      if (message === null || message.data.length < 4) return message;
      const type = message.data[2] | message.data[3] << 8;
      if (type === ${sys.LM_MSG_HELLO}) links.set(fd, { keeper: Number(message.data.readBigUInt64LE(16)), counts: {} });
      const link = links.get(fd);
      if (link === undefined) return message;
      link.counts[type] = (link.counts[type] ?? 0) + 1;
      if (type === ${sys.LM_MSG_REPLAYED}) {
        writeFileSync(dir + '/replay-tmp', JSON.stringify(link.counts));
        renameSync(dir + '/replay-tmp', dir + '/replay-' + link.keeper);
        links.delete(fd);
      }
      return message;
    },
  },
});
`;
}

const KEPT = { ENTRY: sys.LM_MSG_ENTRY, RELAY: sys.LM_MSG_RELAY_STATE, CHILD: sys.LM_MSG_CHILD } as const;
const OWED = { EXITED: sys.LM_MSG_EXITED, FRAME: sys.LM_MSG_FRAME, ACCEPTED: sys.LM_MSG_ACCEPTED } as const;

export class CountingAddon {
  readonly #dir: string;
  /** For LAMINA_ADDON. */
  readonly path: string;

  /** @param addon the real one @param dir an existing folder, which the caller removes */
  constructor(addon: string, dir: string) {
    this.#dir = dir;
    this.path = join(dir, 'counting.cjs');
    writeFileSync(this.path, source(addon, dir));
  }

  /** What a keeper replays to the engine that `replace` brings about: messages by their type. */
  async replayOf(keeper: number, replace: () => Promise<unknown>): Promise<Record<string, number>> {
    const path = join(this.#dir, `replay-${keeper}`);
    rmSync(path, { force: true });
    await replace();
    await until('the keeper has replayed', () => existsSync(path));
    const counts = JSON.parse(readFileSync(path, 'utf8')) as Readonly<Record<string, number>>;
    return Object.fromEntries(
      Object.entries({ ...KEPT, ...OWED }).map(([name, type]) => [`keeper replays ${name}`, counts[type] ?? 0]),
    );
  }
}
