/**
 * What labels say about references. The names and their reading are containerd's
 * (core/metadata/gc.go, docs/garbage-collection.md), its oddities included: the same labels keep
 * the same things.
 */
import { parseDuration } from '../base/index.js';
import { ResourceType } from './resource.js';
import { parseTime } from './time.js';

export type Labels = Readonly<Record<string, string>>;

const PREFIX = 'containerd.io/gc.';
export const EXPIRE_LABEL = `${PREFIX}expire`;
export const FLAT_LABEL = `${PREFIX}flat`;
const ROOT = `${PREFIX}root`;
const SNAPSHOT_REF = `${PREFIX}ref.snapshot.`;
const SNAPSHOT_BACK_REF = `${PREFIX}bref.snapshot.`;
const SNAPSHOT_CONDITION = `${PREFIX}cond.snapshot`;
const USED_AT = `${PREFIX}cond.value-usedat`;
const NAMED_BACK_REFS: readonly (readonly [label: string, type: number])[] = [
  [`${PREFIX}bref.container`, ResourceType.Container],
  [`${PREFIX}bref.content`, ResourceType.Content],
  [`${PREFIX}bref.image`, ResourceType.Image],
];

/** A label that names another resource of the same namespace. */
export interface LabelReference {
  readonly label: string;
  readonly type: number;
  readonly key: string;
}

/** "Keep that snapshot as long as it was used less (or more) than so long ago." */
export interface LabelCondition extends LabelReference {
  readonly isYounger: boolean;
  readonly ageMs: number;
}

/** What the labels of one object say. */
export interface ReadLabels {
  /** The label that makes it a root. */
  readonly root: string | undefined;
  /** What it keeps. */
  readonly references: readonly LabelReference[];
  /** What keeps it. */
  readonly backReferences: readonly LabelReference[];
  readonly conditions: readonly LabelCondition[];
  /** When it was last used, in milliseconds since the epoch, for the conditions of others. */
  readonly usedAt: readonly number[];
}

const NOTHING: ReadLabels = { root: undefined, references: [], backReferences: [], conditions: [], usedAt: [] };

/** Reads labels, knowing the reference labels of the collectors that take part in this round. */
export class LabelReader {
  /** label, as in `gc.ref.content` → type of what it names. */
  readonly #named: readonly (readonly [label: string, type: number])[];

  /** @param collectors reference label (`stream`) → type of a plug-in's resources */
  constructor(collectors: ReadonlyMap<string, number> = new Map()) {
    this.#named = [
      [`${PREFIX}ref.content`, ResourceType.Content],
      [`${PREFIX}ref.image`, ResourceType.Image],
      ...[...collectors].map(([label, type]) => [`${PREFIX}ref.${label}`, type] as const),
    ];
  }

  read(labels: Labels): ReadLabels {
    const ours = Object.keys(labels).filter((label) => label.startsWith(PREFIX));
    if (ours.length === 0) return NOTHING;
    // In the order of their names, as containerd's database has them: proofs are the same each
    // time.
    ours.sort((a, b) => (a < b ? -1 : 1));
    const references: LabelReference[] = [];
    const backReferences: LabelReference[] = [];
    const conditions: LabelCondition[] = [];
    const usedAt: number[] = [];
    let root: string | undefined;
    for (const label of ours) {
      const value = labels[label] ?? '';
      if (label.startsWith(ROOT)) root ??= label;
      else if (label.startsWith(SNAPSHOT_REF)) references.push(ofSnapshot(label, SNAPSHOT_REF, value));
      else if (label.startsWith(SNAPSHOT_BACK_REF)) backReferences.push(ofSnapshot(label, SNAPSHOT_BACK_REF, value));
      else if (label.startsWith(USED_AT)) usedAt.push(...[parseTime(value)].filter((time) => time !== undefined));
      else if (label.startsWith(SNAPSHOT_CONDITION)) conditions.push(...readConditions(label, value));
      else {
        references.push(...named(this.#named, label, value));
        backReferences.push(...named(NAMED_BACK_REFS, label, value));
      }
    }
    return { root, references, backReferences, conditions, usedAt };
  }
}

/**
 * When an object with these labels expires, in milliseconds since the epoch; undefined for never,
 * or for a date that is none.
 */
export function expiryOf(labels: Labels): number | undefined {
  const text = labels[EXPIRE_LABEL];
  return text === undefined ? undefined : parseTime(text);
}

/** References by a label that may have a name behind a dot or a slash. */
function named(known: readonly (readonly [string, number])[], label: string, key: string): LabelReference[] {
  return known
    .filter(([name]) => label === name || label.startsWith(`${name}.`) || label.startsWith(`${name}/`))
    .map(([, type]) => ({ label, type, key }));
}

function ofSnapshot(label: string, prefix: string, name: string): LabelReference {
  const [snapshotter = ''] = label.slice(prefix.length).split('/');
  return { label, type: ResourceType.Snapshot, key: `${snapshotter}/${name}` };
}

/** `usedat<2h,usedat>10h|NAME`: one of them is enough. What cannot be read is no condition. */
function readConditions(label: string, value: string): LabelCondition[] {
  const at = value.indexOf('|');
  if (at < 0) return [];
  const [snapshotter = ''] = label
    .slice(SNAPSHOT_CONDITION.length)
    .replace(/^[./]+/, '')
    .split('/');
  const key = `${snapshotter}/${value.slice(at + 1)}`;
  return value
    .slice(0, at)
    .split(',')
    .flatMap((text) => {
      const [, name, operator, age = ''] = /^([^<>=]*)([<>=])(.*)$/s.exec(text) ?? [];
      const ageMs = parseDuration(age);
      if (name !== 'usedat' || operator === '=' || ageMs === undefined) return [];
      return [{ label, type: ResourceType.Snapshot, key, isYounger: operator === '<', ageMs }];
    });
}
