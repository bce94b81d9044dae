/** What commands have in common: which store or containerd, which namespace, and who changes it. */
import { Code, LaminaError } from '../../base/index.js';
import type { GrpcConnection } from '../../containerd/index.js';
import { type Resource, ResourceType } from '../../gc/index.js';
import type { Actor, Store } from '../../store/index.js';
import { DEFAULT_NAMESPACE, DEFAULT_ROOT } from '../command/shared-options.js';
import type { Invocation } from '../command/spec.js';
import { secondsOf } from '../engine.js';
import { findDigest, parseKey } from '../key.js';
import { usageError } from '../usage.js';

/** A variable that is set to nothing counts as not set. */
function environment(name: string): string | undefined {
  const value = process.env[name];
  return value === '' ? undefined : value;
}

export function rootOf(invocation: Invocation): string {
  const root = invocation.text('root') ?? environment('LAMINA_ROOT') ?? DEFAULT_ROOT;
  if (root === '') throw usageError(invocation, '--root is empty, expected a folder');
  return root;
}

export function namespaceOf(invocation: Invocation): string {
  const namespace = invocation.text('namespace') ?? environment('LAMINA_NAMESPACE') ?? DEFAULT_NAMESPACE;
  if (namespace === '') throw usageError(invocation, '--namespace is empty');
  return namespace;
}

/** Who it is, for the journal. */
export function actorOf(invocation: Invocation): Actor {
  return { command: ['lamina', invocation.spec.words, ...invocation.args].join(' ').slice(0, 500) };
}

/** @param readOnly a store that is not there is not made @throws as `Store.open` */
export async function openStore(invocation: Invocation, { readOnly }: { readonly readOnly: boolean }): Promise<Store> {
  const { Store } = await import('../../store/index.js');
  return Store.open({ root: rootOf(invocation), readOnly });
}

/** The containerd that is to be asked; undefined: the store. @throws UsageError */
export async function daemonOf(invocation: Invocation): Promise<GrpcConnection | undefined> {
  const address = invocation.text('containerd');
  if (address === undefined) {
    if (invocation.text('timeout') !== undefined) throw usageError(invocation, '--timeout goes with --containerd');
    return undefined;
  }
  if (invocation.text('root') !== undefined) {
    throw usageError(invocation, '--root and --containerd: a store or a containerd can be asked, not both');
  }
  const { GrpcConnection } = await import('../../containerd/index.js');
  return new GrpcConnection(address, { timeoutMs: secondsOf(invocation, 30) });
}

/**
 * The thing that a user has named.
 * @param digests those there are, asked for only when a digest has to be looked for
 * @throws LaminaError InvalidArgument, NotFound, FailedPrecondition (ambiguous)
 */
export async function resourceOf(
  text: string,
  namespace: string,
  digests: () => Iterable<string> | Promise<Iterable<string>>,
): Promise<Resource> {
  const { type, key, isBeginning } = parseKey(text);
  return { type, namespace, key: isBeginning ? findDigest(key, namespace, await digests()) : key };
}

/** What a lease calls the type of a resource (containerd core/metadata/leases.go), and its id. */
export function leaseResourceOf({ type, key }: Resource): { readonly type: string; readonly id: string } {
  if (type === ResourceType.Content) return { type: 'content', id: key };
  if (type === ResourceType.Image) return { type: 'images', id: key };
  if (type === ResourceType.Ingest) return { type: 'ingests', id: key };
  if (type === ResourceType.Snapshot) {
    const slash = key.indexOf('/');
    return { type: `snapshots/${key.slice(0, slash)}`, id: key.slice(slash + 1) };
  }
  throw new LaminaError(Code.InvalidArgument, `a lease keeps content, images, snapshots and ingests, not ${key}`);
}

/** `KEY=VALUE` options as labels. @throws UsageError */
export function labelsOf(invocation: Invocation): Record<string, string> {
  return Object.fromEntries(
    invocation.list('label').map((text) => {
      const at = text.indexOf('=');
      if (at < 1) throw usageError(invocation, `--label ${text}: expected KEY=VALUE`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

/** A whole number of an option. @throws UsageError */
export function countOf(invocation: Invocation, name: string): number | undefined {
  const text = invocation.text(name);
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw usageError(invocation, `--${name} is ${text}, expected a whole number`);
  return Number(text);
}
