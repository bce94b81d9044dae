/**
 * A real keeper between an engine and daemons gone mad at the same time: valid messages changed in
 * a few bytes, random ones, bodies in files, descriptors of all kinds; frames and noise on several
 * connections; engines that die in between. Afterwards the keeper answers, has no more descriptors
 * than before, and the sanitizers (run it under `npm run test:hard`) have found nothing.
 *
 * LAMINA_FUZZ_SECONDS sets how long (default 5), LAMINA_FUZZ_SEED repeats a run.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isErrno } from '../../src/base/index.js';
import { Bed, type Engine, eventually, frame, lm, run } from '../native/harness.js';

const SECONDS = Number(process.env['LAMINA_FUZZ_SECONDS'] ?? 5);
const ROUND_MESSAGES = 400;
/**
 * What a mad engine may not say here: the keeper would obey, end, or take another process for its
 * engine.
 */
const FORBIDDEN = new Set(['EXIT', 'WELCOME', 'DECLINE'].map((name) => lm(`MSG_${name}`)));

/** xorshift32, so that a seed repeats a run. */
class Chance {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 1;
  }
  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }
  of<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}

interface Packet {
  readonly bytes: Buffer;
  readonly fds: readonly string[];
}

function packet(
  name: string,
  fields: readonly (string | Buffer)[],
  head: { flags?: number; serial?: number; arg?: number; fds?: readonly string[] } = {},
): Packet {
  const header = Buffer.alloc(lm('HEADER_SIZE'));
  header[0] = lm('MAGIC');
  header[1] = lm('PROTOCOL');
  header.writeUInt16LE(lm(`MSG_${name}`), 2);
  header.writeUInt32LE(head.flags ?? 0, 4);
  header.writeUInt32LE(head.serial ?? 0, 8);
  header.writeUInt32LE(fields.length, 12);
  header.writeUInt32LE(head.arg ?? 0, 16);
  const parts = fields.flatMap((field) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(Buffer.byteLength(field));
    return [length, Buffer.from(field)];
  });
  return { bytes: Buffer.concat([header, ...parts]), fds: head.fds ?? [] };
}

/** A batch that connects a stream which holds something, and goes on. */
function connecting(source: string, name: string): Packet {
  const parts = [
    packet('RELAY', [name]),
    packet('PUT', ['kept', Buffer.alloc(300, 'y')]),
    packet('READ_OUT', ['io/'], { serial: 5, arg: 1 }),
    packet('DEL', ['kept']),
  ].map(({ bytes }) => bytes);
  const fields = [Buffer.of(2, 0, 0, 0), ...parts];
  return packet('BATCH', fields, { flags: lm('F_COUNTED'), fds: [`r:${source}`, 'w:/dev/null'] });
}

/**
 * One of everything an engine says, with a body in `file` among them; `source` is a FIFO that holds
 * something.
 */
function sayings(file: string, source: string): Packet[] {
  const map = Buffer.from([5, 0, 0, 0]);
  return [
    packet('PUT', ['a', 'bytes'], { serial: 1 }),
    packet('PUT', ['b', ''], { fds: ['r:/dev/null'] }),
    packet('DEL', ['a']),
    packet('SPAWN', ['run', '/', '/bin/true\0', 'A=b\0C\0', map], { serial: 2, fds: ['r:/dev/null'] }),
    packet('ADOPT', ['x'], { serial: 3, arg: 1 }),
    packet('ACK', [], { arg: 1 }),
    packet('SEND', [frame(1, Buffer.from('reply'))], { serial: 1, arg: 1, flags: lm('F_STANDING') }),
    packet('SEND', [frame(1, Buffer.from('reply'))], { serial: 2, arg: 2 }),
    packet('RELEASE', [], { serial: 1, arg: 1 }),
    packet('SHUT', [], { arg: 2 }),
    packet('RELAY', ['r'], { serial: 4, fds: ['r:/proc/self/status', 'w:/dev/null'] }),
    packet('RELAY', ['z'], { fds: ['r:/dev/null', 'rw:/dev/null'] }),
    connecting(source, 'r'),
    connecting(source, 'io/z'),
    packet('UNRELAY', ['io/z']),
    packet('UNRELAY', ['r'], { flags: lm('F_FINISH') }),
    packet('UNRELAY', ['r']),
    packet('PONG', []),
    { bytes: header(packet('PUT', ['', ''], { flags: lm('F_BODY_FD') })), fds: [`r:${file}`] },
  ];
}

const header = ({ bytes }: Packet): Buffer => bytes.subarray(0, lm('HEADER_SIZE'));

function mutate(chance: Chance, { bytes, fds }: Packet): Packet {
  const changed = Buffer.from(bytes);
  for (let times = chance.below(4); times > 0; times -= 1) {
    changed[chance.below(changed.length)] = chance.of([0, 1, 2, 0x7f, 0x80, 0xff, chance.below(256)]);
  }
  const cut = chance.below(8) === 0 ? changed.subarray(0, 1 + chance.below(changed.length)) : changed;
  const long = chance.below(8) === 0 ? Buffer.concat([cut, chance.bytes(chance.below(50))]) : cut;
  const kinds = ['r:/dev/null', 'rw:/dev/null', 'r:/proc/self/exe', 'r:/', 'r:/dev/zero'];
  return {
    bytes: long,
    fds: chance.below(5) === 0 ? Array.from({ length: chance.below(18) }, () => chance.of(kinds)) : fds,
  };
}

function isForbidden({ bytes }: Packet): boolean {
  return bytes.length >= 4 && FORBIDDEN.has(bytes.readUInt16LE(2));
}

/** What a daemon writes: frames, oversized ones, parts of frames, and anything. */
function speech(chance: Chance): Buffer {
  const body = chance.bytes(chance.below(200));
  switch (chance.below(6)) {
    case 0:
      return chance.bytes(1 + chance.below(300));
    case 1:
      return frame(chance.below(100), body, chance.of([0, body.length + chance.below(50), 5 << 20, 0xffff_ffff]));
    case 2:
      return frame(chance.below(100), body).subarray(0, 1 + chance.below(12));
    default:
      return frame(chance.below(100), body);
  }
}

async function talk(bed: Bed, socket: string, chance: Chance, daemons: Socket[]): Promise<void> {
  const daemon = daemons[chance.below(4)];
  if (daemon === undefined) {
    const opened = await bed.connect(socket);
    opened.resume();
    daemons.push(opened);
  } else if (chance.below(12) === 0) {
    daemon.destroy();
    daemons.splice(daemons.indexOf(daemon), 1);
  } else if (daemon.writable) daemon.write(speech(chance));
}

/** Lets a FIFO hold this, as far as it has room. */
function fill(fifo: number, text: Buffer): void {
  try {
    writeSync(fifo, text);
  } catch (error) {
    if (!isErrno(error, 'EAGAIN')) throw error;
  }
}

/** A sane successor: clears up what the mad one has left in the keeper. */
async function clearUp(bed: Bed, mad: Engine): Promise<Engine> {
  mad.kill();
  const engine = await bed.engine();
  await bed.replayed(engine);
  for (const { fields } of engine.pendingOf('ENTRY')) engine.send('DEL', { fields: fields.slice(0, 1) });
  for (const { fields } of engine.pendingOf('RELAY_STATE')) engine.send('UNRELAY', { fields: fields.slice(0, 1) });
  await engine.settled();
  return engine;
}

describe('a keeper among the mad', () => {
  it('lives, answers, and keeps nothing', { timeout: SECONDS * 1000 + 120_000 }, async (t) => {
    const seed = Number(process.env['LAMINA_FUZZ_SEED'] ?? randomInt(1, 2 ** 31));
    const chance = new Chance(seed);
    const end = performance.now() + SECONDS * 1000;
    const bed = new Bed();
    const marker = join(bed.dir, 'made-by-a-container');
    const command = packet('SPAWN', ['run', '/', `/usr/bin/touch\0${marker}\0`, '', '']).bytes;
    // Messages everywhere, each a byte further than a multiple of its length.
    const commands = Buffer.concat(Array.from({ length: 100 }, () => Buffer.concat([command, Buffer.of(32)])));
    let held: number | undefined;
    let messages = 0;
    let rounds = 0;
    try {
      const file = join(bed.dir, 'body');
      writeFileSync(file, packet('PUT', ['in a file', Buffer.alloc(40_000, 'x')]).bytes.subarray(lm('HEADER_SIZE')));
      const source = join(bed.dir, 'source');
      assert.equal((await run('mkfifo', [source])).code, 0);
      held = openSync(source, constants.O_RDWR | constants.O_NONBLOCK);
      const { socket, engine: first, pid } = await bed.keeper();
      const openFds = (): number => readdirSync(`/proc/${pid}/fd`).length;
      let engine = first;
      await engine.settled();
      const before = openFds();
      for (; rounds === 0 || performance.now() < end; rounds += 1) {
        const daemons: Socket[] = [];
        const base = sayings(file, source);
        for (let i = 0; i < ROUND_MESSAGES; i += 1) {
          if (chance.below(4) === 0) await talk(bed, socket, chance, daemons);
          const { bytes, fds } = mutate(chance, chance.of(base));
          if (isForbidden({ bytes, fds })) continue;
          fill(held, commands.subarray(0, chance.of([1, 8, 40, 200, 4000])));
          engine.command(`raw 0 ${bytes.toString('hex')} ${fds.join(',') || '-'}`);
          messages += 1;
        }
        engine.command(`fuzz 0 ${1 + chance.below(2 ** 30)} 1000`);
        await engine.lines.take((line) => line === 'fuzzed 0', 'fuzzing');
        messages += 1000;
        for (const daemon of daemons) daemon.destroy();
        engine = await clearUp(bed, engine);
        await eventually('as few descriptors as before', () => openFds() === before);
      }
      assert.equal(existsSync(marker), false, 'what a container says is not done');
      assert.doesNotMatch(readFileSync(`/proc/${pid}/status`, 'utf8'), /^State:\s[ZX]/m);
    } catch (error) {
      throw new Error(`with LAMINA_FUZZ_SEED=${seed}, round ${rounds}`, { cause: error });
    } finally {
      if (held !== undefined) closeSync(held);
      await bed.close();
    }
    t.diagnostic(`seed ${seed}: ${rounds} rounds, ${messages} messages`);
  });
});
