/** What others can see of collections: metrics, spans, and the names of both in docs/gc.md. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import {
  type Attributes,
  type Context,
  type ContextManager,
  context,
  createContextKey,
  ROOT_CONTEXT,
  type Span,
  type SpanOptions,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { type CollectOptions, collect, type GcMetrics, METRICS } from '../../../src/collect/index.js';
import { leasesByAge } from '../../../src/collect/metrics.js';
import { REPO } from '../../lib/repo.js';
import { blob, image, ingest, lease, NOW, namespace, PAST } from '../gc/kit.js';
import { FakeStore } from './fake-store.js';

const OPTIONS: CollectOptions = {
  by: { command: 'test' },
  now: () => NOW,
  gapMs: 0,
  space: () => ({ size: 1, free: 1 }),
};

const populated = (): FakeStore =>
  new FakeStore(
    [
      namespace('default', {
        images: [image('i', 'a')],
        content: [blob('a'), { ...blob('b'), bytes: 7 }],
        leases: [lease('l'), lease('over', { labels: { expire: PAST } })],
        ingests: [ingest('x', NOW + 5_000)],
      }),
    ],
    () => NOW,
  );

/** `name{label=value} value` of everything that was reported. */
function recorder(): { metrics: GcMetrics; lines: string[] } {
  const lines: string[] = [];
  const note = (name: string, value: number, labels: object): void => {
    const text = Object.entries(labels).map(([label, of]) => `${label}=${of}`);
    lines.push(`${name}{${text.join(',')}} ${value}`);
  };
  return { metrics: { count: note, observe: note, set: note }, lines };
}

describe('metrics', () => {
  test('of a collection: result, phases, pauses, types, leases, trash, next expiry', async () => {
    const { metrics, lines } = recorder();
    await collect(populated(), { ...OPTIONS, metrics });
    for (const line of [
      'lamina_gc_collections_total{result=success} 1',
      'lamina_gc_resources_total{type=content,outcome=kept} 1',
      'lamina_gc_resources_total{type=content,outcome=removed} 1',
      'lamina_gc_resources_total{type=lease,outcome=removed} 1',
      'lamina_gc_removed_bytes_total{type=content} 7',
      'lamina_gc_trash_items{} 2',
      'lamina_gc_trash_bytes{} 7',
      'lamina_gc_leases{age=older} 1',
      'lamina_gc_leases{age=1m} 0',
      `lamina_gc_next_expiry_timestamp_seconds{} ${(NOW + 5_000) / 1_000}`,
    ]) {
      assert.ok(lines.includes(line), `${line} is missing in\n${lines.join('\n')}`);
    }
    for (const phase of ['collectors', 'read', 'mark', 'catch_up', 'sweep', 'remove', 'free']) {
      assert.ok(lines.some((line) => line.startsWith(`lamina_gc_phase_seconds{phase=${phase}}`)));
    }
    assert.ok(lines.some((line) => line.startsWith('lamina_gc_writer_pause_seconds{}')));
    const known = Object.entries(METRICS);
    for (const line of lines) {
      const [, name = '', labels = ''] = /^(\w+)\{(.*)\}/.exec(line) ?? [];
      const own = labels === '' ? [] : labels.split(',').map((pair) => pair.split('=')[0]);
      assert.deepEqual(known.find(([of]) => of === name)?.[1].labels, own, line);
    }
  });

  test('a failing collection counts as one, and an exporter that throws fails none', async () => {
    const { metrics, lines } = recorder();
    const store = populated();
    store.read = () => {
      throw new Error('damaged');
    };
    await assert.rejects(collect(store, { ...OPTIONS, metrics }), /damaged/);
    assert.deepEqual(lines, ['lamina_gc_collections_total{result=fail} 1']);
    const broken = (): void => {
      throw new Error('exporter');
    };
    await collect(populated(), { ...OPTIONS, metrics: { count: broken, observe: broken, set: broken } });
  });

  test('leases are counted once each, by age', () => {
    const counts = leasesByAge([0, 59_999, 60_000, 86_400_000, 10 ** 12]);
    assert.deepEqual(
      [...counts],
      [
        ['1m', 2],
        ['1h', 1],
        ['1d', 0],
        ['7d', 1],
        ['older', 1],
      ],
    );
  });

  test('their names, labels and meanings are in docs/gc.md', () => {
    const text = readFileSync(join(REPO, 'docs/gc.md'), 'utf8');
    for (const [name, { kind, labels }] of Object.entries(METRICS)) {
      const row = text.split('\n').find((line) => line.startsWith(`| \`${name}\` |`));
      assert.ok(row !== undefined, `${name} is missing`);
      assert.deepEqual(
        row
          .split('|')
          .slice(2, 4)
          .map((cell) => cell.trim()),
        [kind, labels.map((label) => `\`${label}\``).join(', ')],
      );
    }
  });
});

interface Recorded {
  readonly name: string;
  readonly parent: string | undefined;
  readonly attributes: Attributes;
  readonly events: string[];
  status: SpanStatusCode;
  isEnded: boolean;
}

const PARENT = createContextKey('parent');

/** A tracer that remembers, and a context manager that knows one thread of work. */
function record(): Recorded[] {
  const spans: Recorded[] = [];
  const begin = (name: string, options: SpanOptions = {}, within: Context = context.active()): Span => {
    const parent = within.getValue(PARENT) as Recorded | undefined;
    const own: Recorded = {
      name,
      parent: parent?.name,
      attributes: { ...options.attributes },
      events: [],
      status: SpanStatusCode.UNSET,
      isEnded: false,
    };
    spans.push(own);
    const span = {
      own,
      setAttributes: (attributes: Attributes) => Object.assign(own.attributes, attributes),
      addEvent: (event: string) => own.events.push(event),
      recordException: () => own.events.push('exception'),
      setStatus: ({ code }: { code: SpanStatusCode }) => (own.status = code),
      end: () => (own.isEnded = true),
    };
    return span as unknown as Span;
  };
  const tracer = {
    startSpan: begin,
    startActiveSpan: (name: string, options: SpanOptions, work: (span: Span) => unknown) => {
      const span = begin(name, options);
      const within = context.active().setValue(PARENT, (span as unknown as { own: Recorded }).own);
      return context.with(within, () => work(span));
    },
  };
  let current: Context = ROOT_CONTEXT;
  const manager: ContextManager = {
    active: () => current,
    with: (own, work, that, ...args) => {
      const before = current;
      current = own;
      const result = work.apply(that, args);
      if (result instanceof Promise) void result.finally(() => (current = before)).catch(() => undefined);
      else current = before;
      return result;
    },
    bind: (_, target) => target,
    enable: () => manager,
    disable: () => manager,
  };
  context.setGlobalContextManager(manager);
  trace.setGlobalTracerProvider({ getTracer: () => tracer as unknown as Tracer });
  return spans;
}

describe('spans', () => {
  afterEach(() => {
    trace.disable();
    context.disable();
  });

  test('a collection is one, and its phases are its children', async () => {
    const spans = record();
    await collect(populated(), OPTIONS);
    assert.deepEqual(
      spans.map(({ name, parent }) => [name, parent]),
      [
        ['lamina.gc.collect', undefined],
        ['lamina.gc.mark', 'lamina.gc.collect'],
        ['lamina.gc.sweep', 'lamina.gc.collect'],
        ['lamina.gc.remove', 'lamina.gc.collect'],
        ['lamina.gc.free', 'lamina.gc.collect'],
      ],
    );
    assert.ok(spans.every(({ isEnded, status }) => isEnded && status === SpanStatusCode.UNSET));
    const text = readFileSync(join(REPO, 'docs/gc.md'), 'utf8');
    for (const { name } of spans) assert.ok(text.includes(`\`${name}\``), `${name} is missing in docs/gc.md`);
  });

  test('one that fails has the error, one whose item fails an event', async () => {
    const spans = record();
    const broken = populated();
    broken.read = () => {
      throw new Error('damaged');
    };
    await assert.rejects(collect(broken, OPTIONS), /damaged/);
    assert.deepEqual(
      spans.map(({ status, events }) => [status, events]),
      [
        [SpanStatusCode.ERROR, ['exception']],
        [SpanStatusCode.ERROR, ['exception']],
      ],
    );
    spans.length = 0;
    const store = populated();
    store.onTrash = ({ key }) => {
      if (key === 'b') throw new Error('EIO');
    };
    const { failures } = await collect(store, OPTIONS);
    assert.deepEqual(failures, [{ subject: 'content b of default', message: 'EIO' }]);
    assert.deepEqual(spans[0]?.events, ['failure']);
  });
});
