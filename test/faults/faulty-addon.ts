/**
 * An addon for the engine that lets it die, hang or run out of memory at one exact point: after it
 * has sent its n-th message to a keeper. Between any two messages the keeper's knowledge is the
 * same, so these are all the points at which a death can make a difference to a successor.
 */
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as sys from '../../src/sys/index.js';
import { releaseDir } from '../lib/installed.js';

function source(dir: string): string {
  return `
const { appendFileSync, existsSync, readFileSync, renameSync } = require('node:fs');
const real = require(${JSON.stringify(join(releaseDir(), 'lamina.node'))});
const dir = ${JSON.stringify(dir)};
let armed = '', sent = 0;
const fates = {
  kill: () => process.kill(process.pid, 'SIGKILL'),
  hang: () => { for (;;); },
  hoard: () => { for (const kept = []; ; ) kept.push(Buffer.alloc(1 << 20, 1)); },
  heap: () => { for (const kept = []; ; ) kept.push(new Array(1e5).fill(kept.length + 0.5)); },
};
try {
  renameSync(dir + '/hang-start', dir + '/fired');
  fates.hang();
} catch (error) {
  if (error.code !== 'ENOENT') throw error;
}
const at = () => (existsSync(dir + '/at') ? readFileSync(dir + '/at', 'utf8') : '');
const dieAt = () => {
  renameSync(dir + '/at', dir + '/fired');
  fates.kill();
};
module.exports = Object.create(real, {
  recvMessage: {
    value(fd, size) {
      if (size === 4096 && at() === 'console') dieAt();
      return real.recvMessage(fd, size);
    },
  },
  pidfdSendSignal: {
    value(fd, number) {
      if (at() === 'signaling') dieAt();
      real.pidfdSendSignal(fd, number);
      if (at() === 'signaled') dieAt();
    },
  },
  setWindowSize: {
    value(fd, columns, rows) {
      real.setWindowSize(fd, columns, rows);
      if (at() === 'resized') dieAt();
    },
  },
  sendMessage: {
    value(fd, data, fds) {
      const point = at();
      const wanted = point.slice(point.indexOf(' ') + 1);
      if (point.startsWith('throw ') && data.includes(wanted)) {
        renameSync(dir + '/at', dir + '/fired');
        setTimeout(() => {
          throw new Error('thrown by a test');
        });
      }
      if (point.startsWith('spoil ') && data.includes(wanted)) {
        renameSync(dir + '/at', dir + '/fired');
        let end = data.indexOf(wanted) + wanted.length;
        while (wanted.endsWith('/') && data[end] >= 0x30 && data[end] <= 0x39) end += 1;
        // Behind the name comes the length of what is stored, and that.
        data.fill(0xff, end + 4, end + 12);
      }
      if (point.startsWith('sent ') && data.includes(point.slice(5))) {
        real.sendMessage(fd, data, fds);
        dieAt();
      }
      if (!existsSync(dir + '/arm')) return real.sendMessage(fd, data, fds);
      const text = readFileSync(dir + '/arm', 'utf8');
      if (text !== armed) { armed = text; sent = 0; }
      sent += 1;
      appendFileSync(dir + '/trace', (data[2] | data[3] << 8) + '\\n');
      if (sent < Number(text.split(' ')[0])) return real.sendMessage(fd, data, fds);
      renameSync(dir + '/arm', dir + '/fired');
      real.sendMessage(fd, data, fds);
      fates[text.split(' ')[2]]();
    },
  },
});
`;
}

const NAMES = new Map<number, string>(
  Object.entries(sys).flatMap(([name, value]) =>
    name.startsWith('LM_MSG_') && typeof value === 'number' ? [[value, name.slice('LM_MSG_'.length)] as const] : [],
  ),
);

/** `hoard` fills memory outside the JavaScript heap, `heap` the heap, until something ends it. */
export type Fate = 'kill' | 'hang' | 'hoard' | 'heap';

/**
 * `console`: it is about to read what the runtime sends on a connection for a terminal.
 * `signaling`, `signaled`: it is about to signal a process, or has. `resized`: it has set a
 * terminal's size. `sent TEXT`: it has sent a packet with this in it. `throw TEXT`: it sends such a
 * packet, and a timer throws. `spoil NAME`: it stores an entry of this name, or of that and a
 * number, with wrong bytes.
 */
export type Point = 'console' | 'signaling' | 'signaled' | 'resized' | `${'sent' | 'throw' | 'spoil'} ${string}`;

export class FaultyAddon {
  readonly #dir = mkdtempSync(join(tmpdir(), 'lamina-fault-'));
  /** For LAMINA_ADDON. */
  readonly path = join(this.#dir, 'faulty.cjs');
  #round = 0;

  constructor() {
    writeFileSync(this.path, source(this.#dir));
  }

  /** The engine meets its fate after its n-th message from now on (counted from 1). */
  arm(n: number, fate: Fate = 'kill'): void {
    for (const name of ['trace', 'fired']) rmSync(join(this.#dir, name), { force: true });
    this.#round += 1;
    // written whole, or the engine might read half of it
    const fresh = join(this.#dir, 'arm.new');
    writeFileSync(fresh, `${n} ${this.#round} ${fate}`);
    renameSync(fresh, join(this.#dir, 'arm'));
  }

  /** The engine dies when it first comes to this point from now on. */
  armAt(point: Point): void {
    writeFileSync(join(this.#dir, 'at.new'), point);
    renameSync(join(this.#dir, 'at.new'), join(this.#dir, 'at'));
  }

  /** Nothing that was armed by `armAt` or `armStart` is still to come. */
  get isSpent(): boolean {
    return ['at', 'hang-start'].every((name) => !existsSync(join(this.#dir, name)));
  }

  /** The next engine hangs before it says a word. */
  armStart(): void {
    rmSync(join(this.#dir, 'fired'), { force: true });
    writeFileSync(join(this.#dir, 'hang-start'), '');
  }

  /** True once an engine has met its fate. */
  get fired(): boolean {
    return existsSync(join(this.#dir, 'fired'));
  }

  /** True if the engine has died of it. Ends the armed state. */
  disarm(): boolean {
    rmSync(join(this.#dir, 'arm'), { force: true });
    return this.fired;
  }

  /** The last messages before the death. */
  lastMessages(count = 3): string {
    const path = join(this.#dir, 'trace');
    const types = existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').map(Number) : [];
    return types
      .slice(-count)
      .map((type) => NAMES.get(type) ?? String(type))
      .join(' ');
  }

  remove(): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
