/**
 * OpenTelemetry spans, where the program has `@opentelemetry/api` and has registered a provider. It
 * is loaded with the first collection, and its absence is no error.
 */
import type { Attributes, Span } from '@opentelemetry/api';
import { messageOf } from '../base/index.js';

type Api = typeof import('@opentelemetry/api');

let loading: Promise<Api | undefined> | undefined;

function load(): Promise<Api | undefined> {
  loading ??= import('@opentelemetry/api').catch(() => undefined);
  return loading;
}

/** What work may say about itself. */
export interface SpanNotes {
  set(attributes: Attributes): void;
  /** Something that failed without ending the work. */
  event(name: string, attributes?: Attributes): void;
}

const NO_NOTES: SpanNotes = { set: () => undefined, event: () => undefined };

/** Runs work within a span, which is a child of the caller's and gets the error. */
export async function inSpan<T>(
  name: string,
  attributes: Attributes,
  work: (notes: SpanNotes) => T | Promise<T>,
): Promise<T> {
  const api = await load();
  if (api === undefined) return await work(NO_NOTES);
  return await api.trace.getTracer('lamina/gc').startActiveSpan(name, { attributes }, async (span) => {
    try {
      return await work(notesOf(span));
    } catch (error) {
      span.recordException(error instanceof Error ? error : messageOf(error));
      span.setStatus({ code: api.SpanStatusCode.ERROR, message: messageOf(error) });
      throw error;
    } finally {
      span.end();
    }
  });
}

function notesOf(span: Span): SpanNotes {
  return {
    set: (attributes) => void span.setAttributes(attributes),
    event: (name, attributes) => void span.addEvent(name, attributes),
  };
}
