/** `lamina gc why KEY` */
import { Code, LaminaError } from '../../base/index.js';
import { type Why, why, whyOf } from '../../collect/index.js';
import type { Store } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { jsonOf, note, printJson, printText } from '../output/print.js';
import { daemonOf, namespaceOf, openStore, resourceOf } from './context.js';

/** @returns 1 when there is no such thing */
export async function runWhy(invocation: Invocation): Promise<number> {
  const found = await explained(invocation);
  if (invocation.flag('json')) printJson(jsonOfWhy(found));
  else for (const line of found.lines) printText(line);
  return found.kind === 'unknown' ? 1 : 0;
}

async function explained(invocation: Invocation): Promise<Why> {
  const key = invocation.arg(0) ?? '';
  const namespace = namespaceOf(invocation);
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { readMarked } = await import('./daemon.js');
    const { marked, isSteady, digests } = await readMarked(connection, namespace);
    const found = whyOf(marked, await resourceOf(key, namespace, () => digests));
    if (!isSteady && found.kind !== 'kept') note(CHANGING);
    return found;
  }
  using store = await openStore(invocation, { readOnly: true });
  if (!store.read((view) => view.hasNamespace(namespace))) throw noNamespace(store, namespace);
  return await why(store, await resourceOf(key, namespace, () => digestsOf(store, namespace)));
}

const CHANGING = 'it was changed while it was read: ask again when less is going on';

/** Also of what was removed: where it has gone is what is asked mostly. */
function digestsOf(store: Store, namespace: string): string[] {
  return store.read((view) => {
    const blobs = view.blobs(namespace).map(({ digest }) => digest);
    const gone = view.journal({ namespace, limit: Number.MAX_SAFE_INTEGER });
    return [...blobs, ...gone.filter(({ kind }) => kind === 'content').map(({ key }) => key)];
  });
}

function noNamespace(store: Store, namespace: string): LaminaError {
  const names = store.read((view) => view.namespaces());
  const there = names.length === 0 ? 'there is none' : `there are: ${names.join(', ')}`;
  return new LaminaError(Code.NotFound, `namespace ${namespace}: not found in ${store.root}; ${there}`, {
    subject: namespace,
  });
}

function jsonOfWhy({ resource, kind, explanation, missing, removal, trashId }: Why): unknown {
  const step = ({
    resource: of,
    origin,
  }: {
    readonly resource: Why['resource'];
    readonly origin: string;
  }): unknown => ({
    ...jsonOf(of),
    origin,
  });
  return {
    resource: jsonOf(resource),
    kind,
    proof: explanation.kind === 'kept' ? explanation.proof.map(step) : [],
    missing: missing.map(({ from, reason, steps }) => ({ from: jsonOf(from), reason, steps: steps.map(step) })),
    removal: removal ?? null,
    trash: trashId ?? null,
  };
}
