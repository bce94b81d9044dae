import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, createDeferred, LaminaError } from '../../../src/base/index.js';
import { type CallContext, type ClientCall, type Interceptor, Metadata } from '../../../src/ttrpc/index.js';
import { collect, loopback, settle, stream } from './kit.js';

describe('client and server together', () => {
  it('speak all four forms', async () => {
    const { echoClient, client, server } = loopback();
    assert.equal(await echoClient.unary('hi'), 'hi');
    assert.deepEqual(await collect(echoClient.down('abc')), ['a', 'b', 'c']);
    assert.equal(await echoClient.up(stream('a', 'b', 'c')), 'abc');
    assert.deepEqual(await collect(echoClient.both(stream('a', '', 'c'))), ['a', '', 'c']);
    await settle();
    assert.equal(client.openStreams, 0);
    assert.deepEqual(server.stats(), { streams: 0, handlers: 0, queuedMessages: 0, queuedBytes: 0 });
  });

  it('take turns', async () => {
    const { echoClient } = loopback();
    const question = { next: createDeferred<string | undefined>() };
    const questions = (async function* () {
      for (let text = await question.next.promise; text !== undefined; text = await question.next.promise) {
        question.next = createDeferred();
        yield text;
      }
    })();
    const answers = echoClient.both(questions)[Symbol.asyncIterator]();
    for (const text of ['one', 'two']) {
      const answer = answers.next();
      question.next.resolve(text);
      assert.deepEqual(await answer, { done: false, value: text });
    }
    const end = answers.next();
    question.next.resolve(undefined);
    assert.equal((await end).done, true);
  });

  it('carry metadata and deadline to the handler', async () => {
    const seen = createDeferred<CallContext>();
    const { echoClient } = loopback({
      unary: (text, context) => {
        seen.resolve(context);
        return text;
      },
    });
    await echoClient.unary('', { metadata: { 'containerd-namespace-ttrpc': 'k8s.io' }, timeoutMs: 60_000 });
    const context = await seen.promise;
    assert.equal(context.metadata.get('containerd-namespace-ttrpc'), 'k8s.io');
    assert.ok(context.deadline !== undefined);
  });

  it('a call given up in the middle of its stream ends on the server, too', async () => {
    const { echoClient, server } = loopback();
    const controller = new AbortController();
    const waiting = (async function* () {
      yield 'a';
      await new Promise(() => undefined);
    })();
    const answers = echoClient.both(waiting, { signal: controller.signal })[Symbol.asyncIterator]();
    assert.equal((await answers.next()).value, 'a');
    controller.abort();
    await assert.rejects(answers.next(), { code: Code.Canceled });
    await settle();
    assert.equal(server.stats().streams, 0);
  });

  it('many calls wait beside each other', async () => {
    const go = createDeferred<void>();
    const { echoClient, server } = loopback({
      unary: async (text) => {
        await go.promise;
        return text;
      },
    });
    const texts = Array.from({ length: 500 }, (_, index) => `${index}`);
    const calls = texts.map((text) => echoClient.unary(text));
    await settle();
    assert.equal(server.stats().streams, 500);
    go.resolve();
    assert.deepEqual(await Promise.all(calls), texts);
  });
});

describe('interceptors', () => {
  const note =
    <C extends { readonly method: string }>(log: string[], name: string): Interceptor<C> =>
    async (request, call, next) => {
      log.push(`${name} ${call.method}`);
      const reply = await next(request, call);
      log.push(`${name} done`);
      return reply;
    };

  it('run outermost first, on both sides', async () => {
    const log: string[] = [];
    const { echoClient } = loopback(
      {},
      {
        client: { interceptors: [note(log, 'c1'), note(log, 'c2')] },
        server: { interceptors: [note(log, 's1'), note(log, 's2')] },
      },
    );
    assert.equal(await echoClient.unary('x'), 'x');
    assert.deepEqual(log, [
      ...['c1 Unary', 'c2 Unary', 's1 Unary', 's2 Unary'],
      ...['s2 done', 's1 done', 'c2 done', 'c1 done'],
    ]);
  });

  it('see streams', async () => {
    const shout: Interceptor<CallContext> = async (request, call, next) => {
      const upper = async function* (messages: AsyncIterable<unknown>): AsyncGenerator<unknown> {
        for await (const message of messages) yield String(message).toUpperCase();
      };
      const reply = await next(request.stream ? { stream: true, messages: upper(request.messages) } : request, call);
      return reply.stream ? { stream: true, messages: upper(reply.messages) } : reply;
    };
    const pass: Interceptor<ClientCall> = (request, call, next) => next(request, call);
    const { echoClient } = loopback({}, { server: { interceptors: [shout] }, client: { interceptors: [pass] } });
    assert.equal(await echoClient.unary('a'), 'a');
    assert.deepEqual(await collect(echoClient.down('ab')), ['A', 'B']);
    assert.equal(await echoClient.up(stream('a', 'b')), 'AB');
    assert.deepEqual(await collect(echoClient.both(stream('a', 'b'))), ['A', 'B']);
  });

  it('may change a call, refuse it, or try again', async () => {
    const addKey: Interceptor<ClientCall> = (request, call, next) =>
      next(request, { ...call, metadata: Metadata.from({ key: 'value' }) });
    const retry: Interceptor<ClientCall> = (request, call, next) =>
      next(request, call).catch(() => next({ stream: false, message: 'second' }, call));
    const refuse: Interceptor<CallContext> = async (request, call, next) => {
      if (call.metadata.get('key') !== 'value') throw new LaminaError(Code.Unauthenticated, 'no key');
      if (!request.stream && request.message === 'first') throw new LaminaError(Code.Aborted, 'try again');
      return next(request, call);
    };
    const with_ = loopback({}, { client: { interceptors: [addKey, retry] }, server: { interceptors: [refuse] } });
    assert.equal(await with_.echoClient.unary('first'), 'second');
    const without = loopback({}, { server: { interceptors: [refuse] } });
    await assert.rejects(without.echoClient.unary('x'), { code: Code.Unauthenticated, message: 'no key' });
    await assert.rejects(collect(without.echoClient.down('x')), { code: Code.Unauthenticated });
  });
});
