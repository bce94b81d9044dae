import { forward } from '../../../src/api/index.js';
import { Code, connect, createClient, LaminaError, Router, Server } from '../../../src/ttrpc/index.js';

/** Serves containerd's event service on a socket, and calls it. */
export async function example(path: string): Promise<string[]> {
  const topics: string[] = [];

  const router = new Router().add(forward.EventsDefinition, {
    async forward(request, context) {
      if (request.envelope === undefined) throw new LaminaError(Code.InvalidArgument, 'no envelope');
      topics.push(`${context.metadata.get('containerd-namespace-ttrpc')} ${request.envelope.topic}`);
      return {};
    },
  });
  const server = new Server(router);
  await server.listen({ path });

  const connection = await connect({ path }, { onClose: () => topics.push('closed') });
  const client = createClient(forward.EventsDefinition, connection);
  const envelope = { timestamp: undefined, namespace: 'k8s.io', topic: '/tasks/oom', event: undefined };
  await client.forward({ envelope }, { timeoutMs: 5000, metadata: { 'containerd-namespace-ttrpc': 'k8s.io' } });

  connection.close();
  await server.shutdown();
  return topics;
}
