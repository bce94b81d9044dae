/** Snapshots, containers and sandboxes. */
import { Code, LaminaError } from '../base/index.js';
import type { Labels } from '../gc/index.js';
import { describe } from './changes.js';
import { ContentChanges } from './content-changes.js';
import { checkBackend, checkIdentifier, checkLabels, checkName, checkSnapshotter } from './names.js';
import { bodyText, containerOf, labelText, sandboxOf } from './rows.js';
import type { Row } from './sqlite.js';
import type { Json, ObjectName, SnapshotKind, Usage } from './types.js';

export interface NewSnapshot {
  readonly snapshotter: string;
  readonly name: string;
  readonly parent?: string | undefined;
  readonly kind: SnapshotKind;
  readonly backend: string;
  readonly usage?: Usage | undefined;
  readonly labels?: Labels | undefined;
}

export interface SnapshotChanges {
  readonly kind?: SnapshotKind | undefined;
  readonly usage?: Usage | undefined;
  readonly labels?: Labels | undefined;
}

/**
 * The fields that containers and sandboxes share. One that is left out stays as it was; in a new
 * record it is null or empty.
 */
export interface BodyChanges {
  readonly labels?: Labels | undefined;
  readonly runtime?: Json | undefined;
  readonly spec?: Json | undefined;
  readonly extensions?: Json | undefined;
}

export interface ContainerChanges extends BodyChanges {
  readonly image?: string | undefined;
  readonly snapshotter?: string | undefined;
  readonly snapshotKey?: string | undefined;
  readonly sandbox?: string | undefined;
}

export interface SandboxChanges extends BodyChanges {
  readonly sandboxer?: string | undefined;
}

export class RecordChanges extends ContentChanges {
  /**
   * @throws LaminaError AlreadyExists; NotFound for the parent; FailedPrecondition for one that is
   *   not committed
   */
  createSnapshot(namespace: string, snapshot: NewSnapshot): void {
    const { snapshotter, name, parent, kind, backend, usage, labels = {} } = snapshot;
    checkSnapshotter(snapshotter);
    checkName('snapshot', name);
    checkBackend(backend);
    checkLabels(labels);
    this.ensureNamespace(namespace);
    if (parent !== undefined) this.#checkParent({ kind: 'snapshot', namespace, key: `${snapshotter}/${parent}` });
    const other = this.database.get(
      'SELECT 1 FROM snapshots WHERE snapshotter = ? AND backend = ?',
      snapshotter,
      backend,
    );
    if (other !== undefined) {
      throw new LaminaError(Code.AlreadyExists, `backend ${backend} of ${snapshotter}: another snapshot has it`, {
        subject: backend,
      });
    }
    const now = this.now();
    this.add(
      { kind: 'snapshot', namespace, key: `${snapshotter}/${name}` },
      {
        ns: namespace,
        snapshotter,
        name,
        parent: parent ?? null,
        kind,
        backend,
        bytes: usage?.bytes ?? null,
        inodes: usage?.inodes ?? null,
        labels: labelText(labels),
        created: now,
        updated: now,
      },
    );
  }

  /** @throws LaminaError NotFound */
  updateSnapshot(namespace: string, snapshotter: string, name: string, changes: SnapshotChanges): void {
    const { kind, usage, labels } = changes;
    if (labels !== undefined) checkLabels(labels);
    this.change(
      { kind: 'snapshot', namespace, key: `${snapshotter}/${name}` },
      {
        ...(kind === undefined ? {} : { kind }),
        ...(usage === undefined ? {} : { bytes: usage.bytes, inodes: usage.inodes }),
        ...(labels === undefined ? {} : { labels: labelText(labels) }),
        updated: this.now(),
      },
    );
  }

  /**
   * Makes an active snapshot a committed one of another name, as containerd's Commit does.
   * @throws LaminaError NotFound; FailedPrecondition when it is not active; AlreadyExists for the
   *   new name
   */
  commitSnapshot(
    namespace: string,
    snapshotter: string,
    active: string,
    name: string,
    changes: SnapshotChanges = {},
  ): void {
    const from: ObjectName = { kind: 'snapshot', namespace, key: `${snapshotter}/${active}` };
    const to: ObjectName = { kind: 'snapshot', namespace, key: `${snapshotter}/${name}` };
    checkName('snapshot', name);
    const row = this.need(from);
    if (row['kind'] !== 'active') {
      throw new LaminaError(Code.FailedPrecondition, `${describe(from)}: it is ${row['kind']}, not active`, {
        subject: active,
      });
    }
    this.take(from);
    this.add(to, { ...row, name, kind: 'committed' });
    this.renameInLeases(from, to);
    this.note('delete', from, `committed as ${name}`);
    if (Object.keys(changes).length > 0) this.updateSnapshot(namespace, snapshotter, name, changes);
  }

  /** @throws LaminaError NotFound; FailedPrecondition while another has it as its parent */
  deleteSnapshot(namespace: string, snapshotter: string, name: string, proof?: string): void {
    this.remove({ kind: 'snapshot', namespace, key: `${snapshotter}/${name}` }, proof);
  }

  /** @throws LaminaError AlreadyExists, InvalidArgument */
  createContainer(namespace: string, { id, ...changes }: ContainerChanges & { readonly id: string }): void {
    this.#createWithBody({ kind: 'container', namespace, key: id }, containerColumns(changes), changes);
  }

  /** @throws LaminaError NotFound, InvalidArgument */
  updateContainer(namespace: string, id: string, changes: ContainerChanges): void {
    const name: ObjectName = { kind: 'container', namespace, key: id };
    this.#changeBody(name, containerColumns(changes), { ...containerOf(this.need(name)), ...defined(changes) });
  }

  /** @throws LaminaError NotFound */
  deleteContainer(namespace: string, id: string, proof?: string): void {
    this.remove({ kind: 'container', namespace, key: id }, proof);
  }

  /** @throws LaminaError AlreadyExists, InvalidArgument */
  createSandbox(namespace: string, { id, ...changes }: SandboxChanges & { readonly id: string }): void {
    this.#createWithBody({ kind: 'sandbox', namespace, key: id }, { sandboxer: changes.sandboxer ?? null }, changes);
  }

  /** @throws LaminaError NotFound, InvalidArgument */
  updateSandbox(namespace: string, id: string, changes: SandboxChanges): void {
    const name: ObjectName = { kind: 'sandbox', namespace, key: id };
    const columns: Row = changes.sandboxer === undefined ? {} : { sandboxer: changes.sandboxer };
    this.#changeBody(name, columns, { ...sandboxOf(this.need(name)), ...defined(changes) });
  }

  /** @throws LaminaError NotFound */
  deleteSandbox(namespace: string, id: string, proof?: string): void {
    this.remove({ kind: 'sandbox', namespace, key: id }, proof);
  }

  #createWithBody(name: ObjectName, columns: Row, changes: BodyChanges): void {
    checkIdentifier(name.kind, name.key);
    const { labels = {}, runtime = null, spec = null, extensions = null } = changes;
    checkLabels(labels);
    this.ensureNamespace(name.namespace);
    const now = this.now();
    const body = bodyText({ runtime, spec, extensions });
    const row = { ns: name.namespace, id: name.key, labels: labelText(labels), created: now, updated: now, body };
    this.add(name, { ...row, ...columns });
  }

  #changeBody(name: ObjectName, columns: Row, merged: Required<BodyChanges>): void {
    const { labels = {}, runtime = null, spec = null, extensions = null } = merged;
    checkLabels(labels);
    const body = bodyText({ runtime, spec, extensions });
    this.change(name, { ...columns, labels: labelText(labels), updated: this.now(), body });
  }

  #checkParent(parent: ObjectName): void {
    const row = this.need(parent);
    if (row['kind'] === 'committed') return;
    throw new LaminaError(Code.FailedPrecondition, `${describe(parent)}: it is ${row['kind']}, a parent is committed`, {
      subject: parent.key,
    });
  }
}

function containerColumns({ image, snapshotter, snapshotKey, sandbox }: ContainerChanges): Row {
  return defined({ image, snapshotter, snapshot: snapshotKey, sandbox }) as Row;
}

function defined<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}
