/**
 * The engine's connections to the daemons it publishes to: one per address, made on first use, dropped after a failure so that the
 * next attempt dials anew. Where a daemon offers no ttrpc socket, its publish command is run instead.
 */

import { closeSync } from 'node:fs';
import { Any, forward } from '../api/index.js';
import { Code, LaminaError } from '../base/index.js';
import { binding } from '../sys/index.js';
import { type Client, connect } from '../ttrpc/index.js';
import type { Hello, KeeperLink } from './keeper-link.js';

/** The stock shim's limit for one attempt. */
const FORWARD_TIMEOUT_MS = 5_000;
/** Request metadata that tells the daemon whose event it is. */
const NAMESPACE_HEADER = 'containerd-namespace-ttrpc';

export class DaemonConnections {
  /** address → connection, or the attempt to make it; removed when it fails or closes. */
  readonly #clients = new Map<string, Promise<Client>>();

  /** Takes one event to the daemon of a keeper. */
  async forward(hello: Hello, link: KeeperLink, request: forward.ForwardRequest): Promise<void> {
    if (hello.ttrpcAddress === '') return await this.#publishByCommand(hello, link, request);
    const client = await this.#client(hello.ttrpcAddress);
    const events = client.service(forward.EventsDefinition);
    await events.forward(request, {
      timeoutMs: FORWARD_TIMEOUT_MS,
      metadata: { [NAMESPACE_HEADER]: [hello.namespace] },
    });
  }

  close(): void {
    for (const client of this.#clients.values()) {
      void client.then(
        (open) => open.close(),
        () => undefined,
      );
    }
    this.#clients.clear();
  }

  #client(address: string): Promise<Client> {
    const known = this.#clients.get(address);
    if (known !== undefined) return known;
    const made = connect({ path: address.replace(/^unix:\/\//, '') });
    this.#clients.set(address, made);
    const forget = (): void => {
      if (this.#clients.get(address) === made) this.#clients.delete(address);
    };
    made.then((client) => client.onClose(forget), forget);
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
