/**
 * A peer that speaks just enough D-Bus to misbehave: for what a real bus does not do on request.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import compat from '@particle/dbus-next/lib/marshall-compat.js';
import variant from '@particle/dbus-next/lib/variant.js';

const HEADER_BYTES = 16;
const METHODS = [
  'Hello',
  'AddMatch',
  'RemoveMatch',
  'Get',
  'StartTransientUnit',
  'StartUnit',
  'StopUnit',
  'ResetFailedUnit',
  'GetJob',
];

/** A call as far as the fake understands it. */
export interface FakeCall {
  readonly member: string;
  readonly serial: number;
  /** The whole message as text, to look for words in. */
  readonly text: string;
  readonly socket: Socket;
}

export type Reaction = (call: FakeCall, bus: FakeBus) => void;

export class FakeBus {
  readonly path: string;
  readonly calls: FakeCall[] = [];
  connections = 0;
  /** Answers the authentication; off: takes connections and says nothing at all. */
  authenticates = true;
  #serial = 0;
  readonly #directory: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(react: Reaction) {
    this.#directory = mkdtempSync(join(tmpdir(), 'lamina-bus-'));
    this.path = join(this.#directory, 'bus');
    this.#server = createServer((socket) => this.#serve(socket, react));
  }

  static async start(react: Reaction): Promise<FakeBus> {
    const bus = new FakeBus(react);
    await new Promise<void>((resolve) => bus.#server.listen(bus.path, resolve));
    return bus;
  }

  /** What a manager needs to find it. */
  get environment(): { env: Record<string, string>; uid: number } {
    return { env: { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${this.path}` }, uid: 1000 };
  }

  reply(call: FakeCall, signature = '', body: readonly unknown[] = []): void {
    this.#send(call.socket, { type: 2, replySerial: call.serial, signature, body });
  }

  refuse(call: FakeCall, errorName: string, text: string): void {
    this.#send(call.socket, { type: 3, replySerial: call.serial, errorName, signature: 's', body: [text] });
  }

  value(call: FakeCall, signature: string, value: unknown): void {
    this.reply(call, 'v', [new variant.Variant(signature, value)]);
  }

  jobRemoved(socket: Socket, job: string, unit: string, result: string): void {
    this.#send(socket, {
      type: 4,
      path: '/org/freedesktop/systemd1',
      interface: 'org.freedesktop.systemd1.Manager',
      member: 'JobRemoved',
      signature: 'uoss',
      body: [7, job, unit, result],
    });
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#directory, { recursive: true });
  }

  #send(socket: Socket, message: object): void {
    this.#serial += 1;
    socket.write(compat.marshallMessage({ flags: 1, serial: this.#serial, ...message })[0]);
  }

  #serve(socket: Socket, react: Reaction): void {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
    let bytes: Buffer = Buffer.alloc(0);
    let isRunning = false;
    socket.on('data', (chunk: Buffer) => {
      if (!this.authenticates) return;
      bytes = Buffer.concat([bytes, chunk]);
      if (!isRunning) {
        const end = bytes.indexOf('BEGIN\r\n');
        if (end < 0) return;
        isRunning = true;
        bytes = bytes.subarray(end + 'BEGIN\r\n'.length);
        socket.write('DATA\r\nOK 0123456789abcdef\r\n');
      }
      for (let length = lengthOf(bytes); length <= bytes.length; length = lengthOf(bytes)) {
        this.#take(bytes.subarray(0, length), socket, react);
        bytes = bytes.subarray(length);
      }
    });
  }

  #take(message: Buffer, socket: Socket, react: Reaction): void {
    const text = message.toString('latin1');
    const member = METHODS.find((name) => text.includes(`\0${name}\0`)) ?? '';
    const call = { member, serial: message.readUInt32LE(8), text, socket };
    this.calls.push(call);
    if (member === 'Hello') this.reply(call, 's', [':1.1']);
    else react(call, this);
  }
}

/** Of the first message; more than there is if it is not whole. */
function lengthOf(bytes: Buffer): number {
  if (bytes.length < HEADER_BYTES) return Number.POSITIVE_INFINITY;
  const fields = (bytes.readUInt32LE(12) + 7) & ~7;
  return HEADER_BYTES + fields + bytes.readUInt32LE(4);
}
