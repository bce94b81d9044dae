/**
 * Interceptors: code around every call, on either side. The first in the list is the outermost.
 */

/** What flows in one direction of a call: one message, or a stream of them. */
export type Payload =
  | { readonly stream: false; readonly message: unknown }
  | { readonly stream: true; readonly messages: AsyncIterable<unknown> };

/**
 * Wraps a call. It may look at or replace request, call and reply, throw instead of calling `next`,
 * or call it again (for single messages; a stream can be read once).
 * @typeParam C what is known of the call: CallContext on the server, ClientCall on the client
 */
export type Interceptor<C> = (
  request: Payload,
  call: C,
  next: (request: Payload, call: C) => Promise<Payload>,
) => Promise<Payload>;

/** A chain of interceptors as one function. */
export function chain<C>(
  interceptors: readonly Interceptor<C>[],
  last: (request: Payload, call: C) => Promise<Payload>,
): (request: Payload, call: C) => Promise<Payload> {
  return interceptors.reduceRight<(request: Payload, call: C) => Promise<Payload>>(
    (next, interceptor) => (request, call) => interceptor(request, call, next),
    last,
  );
}
