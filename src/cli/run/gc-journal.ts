/** `lamina gc journal` */
import { objectOf } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { printJson, printTable } from '../output/print.js';
import { formatTime } from '../output/units.js';
import { countOf, namespaceOf, openStore, resourceOf } from './context.js';

const STANDARD = 100;

export async function runJournal(invocation: Invocation): Promise<undefined> {
  const after = countOf(invocation, 'after');
  const limit = countOf(invocation, 'limit') ?? STANDARD;
  const text = invocation.text('key');
  // Without a key or a namespace of its own the journal is that of the whole store.
  const isOfNamespace = text !== undefined || invocation.text('namespace') !== undefined;
  const namespace = isOfNamespace ? namespaceOf(invocation) : undefined;
  using store = await openStore(invocation, { readOnly: true });
  const all = (): string[] =>
    store.read((view) =>
      view
        .journal({ namespace, limit: Number.MAX_SAFE_INTEGER })
        .filter(({ kind }) => kind === 'content')
        .map(({ key }) => key),
    );
  const wanted = text === undefined ? undefined : objectOf(await resourceOf(text, namespace ?? '', all));
  const isWanted = ({ kind }: { readonly kind: string }): boolean => wanted === undefined || kind === wanted.kind;
  const entries = store
    .read((view) =>
      view.journal({
        after,
        namespace,
        key: wanted?.key,
        limit: wanted === undefined ? limit : Number.MAX_SAFE_INTEGER,
      }),
    )
    .filter(isWanted)
    .slice(-limit || Number.POSITIVE_INFINITY);
  if (invocation.flag('json')) {
    printJson({
      entries: entries.map((entry) => ({ ...entry, rule: entry.rule ?? null, proof: entry.proof ?? null })),
    });
    return;
  }
  const titles = ['NUMBER', 'TIME', 'USER', 'PROCESS', 'ACTION', 'NAMESPACE', 'WHAT', 'COMMAND', 'WHY'];
  printTable(
    titles.map((title) => ({ title })),
    entries.map(({ sequence, time, uid, pid, command, rule, action, kind, namespace: of, key, proof }) => [
      ...[String(sequence), formatTime(time), String(uid), String(pid), action, of],
      kind === 'namespace' ? 'namespace' : `${kind}/${key}`,
      command,
      [rule, proof].filter((part) => part !== undefined).join(': '),
    ]),
  );
}
