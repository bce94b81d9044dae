/**
 * State calls per second. The client is one thread like any other program here, so it must cost as
 * little as it can: one request, encoded once, with only its stream id rewritten; a reply is found
 * by its frame header and its body not looked at.
 */
import { once } from 'node:events';
import net from 'node:net';
import * as api from '../src/api/index.js';
import {
  ClientConnection,
  createClient,
  FrameDecoder,
  type FrameHeader,
  FrameType,
  readHeader,
} from '../src/ttrpc/index.js';
import { within } from '../test/lib/wait.js';
import type { Plan } from './plan.js';
import { cpuSeconds } from './processes.js';
import { type Shim, type Side, STEP_MS } from './side.js';

const SLOT_MS = 700;
const WARM_UP_MS = 500;
const ROUNDS = 3;
/** Where a frame has its stream id, u32 big endian. */
const STREAM_ID_AT = 4;

/** The frame of a State request, as the client would send it. */
function stateFrame(id: string): Buffer {
  const sent: Uint8Array[] = [];
  const connection = new ClientConnection({ send: (frame) => void sent.push(frame), close: () => undefined });
  createClient(api.taskV2.TaskDefinition, connection)
    .state({ id, execId: '' })
    .catch(() => undefined); // nobody answers; the end of this connection is no matter
  connection.close();
  const [frame] = sent;
  if (frame === undefined) throw new Error('the client has sent nothing');
  return Buffer.from(frame);
}

/**
 * Calls one after the other on one connection until `end` (performance.now()); returns how many
 * were answered.
 */
async function caller(path: string, id: string, end: number): Promise<number> {
  const socket = net.connect({ path });
  await once(socket, 'connect');
  const frame = stateFrame(id);
  let answered = 0;
  let length = 0;
  try {
    return await new Promise<number>((resolve, reject) => {
      const send = (): void => {
        frame.writeUInt32BE(2 * answered + 1, STREAM_ID_AT);
        socket.write(Buffer.from(frame));
      };
      const check = (header: FrameHeader): void => {
        // Every answer is as long as the first, or it is not the same answer: an error, say.
        if (answered === 0) length = header.length;
        const expected = { length, streamId: 2 * answered + 1, type: FrameType.Response };
        for (const key of ['length', 'streamId', 'type'] as const) {
          if (header[key] !== expected[key])
            reject(new Error(`reply with ${key} ${header[key]}, not ${expected[key]}`));
        }
      };
      const decoder = new FrameDecoder((reply) => {
        check(readHeader(reply));
        answered += 1;
        if (performance.now() < end) send();
        else resolve(answered);
      });
      socket.on('data', (chunk: Buffer) => decoder.push(chunk));
      socket.on('close', () => reject(new Error('the shim closed the connection')));
      send();
    });
  } finally {
    socket.removeAllListeners('close');
    socket.destroy();
  }
}

async function load(side: Side, shim: Shim, connections: number, ms: number): Promise<{ rate: number; cpuUs: number }> {
  const path = shim.address.replace(/^unix:\/\//, '');
  const { pids } = side;
  const before = cpuSeconds(pids);
  const begin = performance.now();
  const callers = Array.from({ length: connections }, () => caller(path, shim.bundle.id, begin + ms));
  const counts = await within(`${side.label}: State calls`, STEP_MS, Promise.all(callers));
  const seconds = (performance.now() - begin) / 1000;
  const calls = counts.reduce((sum, count) => sum + count, 0);
  return { rate: calls / seconds, cpuUs: ((cpuSeconds(pids) - before) * 1e6) / calls };
}

export async function calls(plan: Plan): Promise<void> {
  const shims = new Map<Side, Shim>();
  for (const side of plan.sides) shims.set(side, await side.running());
  for (const [side, shim] of shims) {
    // The first answer must be one, before others are only counted.
    const { status } = await shim.task.state({ id: shim.bundle.id, execId: '' });
    if (status !== api.Status.RUNNING) throw new Error(`${side.label}: the container has status ${status}`);
    await load(side, shim, 1, WARM_UP_MS);
  }
  for (const connections of [1, 16]) {
    for (let n = 0; n < ROUNDS; n += 1) {
      for (const side of plan.inTurn(n)) {
        const shim = shims.get(side);
        if (shim === undefined) continue;
        const { rate, cpuUs } = await load(side, shim, connections, SLOT_MS);
        plan.samples.add(`calls-${connections}`, side.label, rate);
        plan.samples.add(`calls-cpu-${connections}`, side.label, cpuUs);
      }
    }
  }
  for (const [side, shim] of shims) await side.finish(shim);
}
