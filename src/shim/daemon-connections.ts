/**
 * The engine's connections to the daemons it publishes to: one per address, made on first use, dropped after a failure so that the
 * next attempt dials anew. Where a daemon offers no ttrpc socket, its publish command is run instead.
 */

import { closeSync } from 'node:fs';
import { Any, forward } from '../api/index.js';
import { Code, LaminaError } from '../base/index.js';
import { binding } from '../sys/index.js';
import { type ClientConnection, connect, createClient, type ServiceClient } from '../ttrpc/index.js';
import type { Hello, KeeperLink } from './keeper-link.js';

/** The stock shim's limit for one attempt. */
const FORWARD_TIMEOUT_MS = 5_000;
/** Request metadata that tells the daemon whose event it is. */
const NAMESPACE_HEADER = 'containerd-namespace-ttrpc';

interface Daemon {
  readonly connection: ClientConnection;
  readonly events: ServiceClient<typeof forward.EventsDefinition>;
}

async function dial(address: string, onClose: () => void): Promise<Daemon> {
  const connection = await connect({ path: address.replace(/^unix:\/\//, '') }, { onClose });
  return { connection, events: createClient(forward.EventsDefinition, connection) };
}

export class DaemonConnections {
  /** address → connection, or the attempt to make it; removed when it fails or closes. */
  readonly #daemons = new Map<string, Promise<Daemon>>();

  /** Takes one event to the daemon of a keeper, once what it tells of is recorded there. */
  async forward(hello: Hello, link: KeeperLink, request: forward.ForwardRequest): Promise<void> {
    await link.flushed();
    if (hello.ttrpcAddress === '') return await this.#publishByCommand(hello, link, request);
    const { events } = await this.#daemon(hello.ttrpcAddress);
    await events.forward(request, {
      timeoutMs: FORWARD_TIMEOUT_MS,
      metadata: { [NAMESPACE_HEADER]: [hello.namespace] },
    });
  }

  close(): void {
    for (const daemon of this.#daemons.values()) {
      void daemon.then(
        ({ connection }) => connection.close(),
        () => undefined,
      );
    }
    this.#daemons.clear();
  }

  #daemon(address: string): Promise<Daemon> {
    const known = this.#daemons.get(address);
    if (known !== undefined) return known;
    const forget = (): void => {
      if (this.#daemons.get(address) === made) this.#daemons.delete(address);
    };
    const made = dial(address, forget);
    made.catch(forget);
    this.#daemons.set(address, made);
    return made;
  }

  /** `containerd --address GRPC publish --topic T --namespace NS`, the event on its stdin. */
  async #publishByCommand(hello: Hello, link: KeeperLink, request: forward.ForwardRequest): Promise<void> {
    const { envelope } = request;
    const event = Any.encode(envelope?.event ?? { typeUrl: '', value: new Uint8Array() }).finish();
    const stdin = binding().memfd('lamina-event', event);
    try {
      const { publishBinary, grpcAddress, namespace } = hello;
      const topic = envelope?.topic ?? '';
      const child = await link.spawn({
        name: `publish ${topic}`,
        argv: [publishBinary, '--address', grpcAddress, 'publish', '--topic', topic, '--namespace', namespace],
        fds: [[stdin, 0]],
      });
      const timer = setTimeout(() => child.kill(9), FORWARD_TIMEOUT_MS);
      const { code } = await child.exited;
      clearTimeout(timer);
      if (code !== 0) throw new LaminaError(Code.Unavailable, `${publishBinary} publish: exit status ${code}`);
    } finally {
      closeSync(stdin);
    }
  }
}
