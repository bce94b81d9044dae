import { Code, LaminaError } from '../base/index.js';
import type { MethodDefinition, ServiceDefinition, ServiceHandlers } from './service.js';

/** A method together with what serves it. */
export interface Route {
  readonly service: string;
  readonly method: MethodDefinition;
  /** Calls the handler. Which of the four shapes it has, `method` tells. */
  readonly handle: (request: unknown, context: unknown) => unknown;
}

/** The services a server offers. One router may be shared by any number of connections. */
export class Router {
  /** Full service name → method name → route. */
  readonly #services = new Map<string, ReadonlyMap<string, Route>>();

  /**
   * Registers a service. Handlers are called as methods of `handlers`, so that it may be an object
   * with state.
   * @throws {LaminaError} AlreadyExists when the service is registered
   */
  add<D extends ServiceDefinition>(definition: D, handlers: ServiceHandlers<D>): this {
    const service = definition.fullName;
    if (this.#services.has(service)) {
      throw new LaminaError(Code.AlreadyExists, `register service "${service}": already exists`, { subject: service });
    }
    const routes = new Map<string, Route>();
    for (const [key, method] of Object.entries(definition.methods)) {
      const handler: unknown = Reflect.get(handlers, key);
      if (typeof handler !== 'function') {
        throw new LaminaError(Code.InvalidArgument, `register service "${service}": no handler "${key}"`);
      }
      const handle = (request: unknown, context: unknown): unknown => handler.call(handlers, request, context);
      routes.set(method.name, { service, method, handle });
    }
    this.#services.set(service, routes);
    return this;
  }

  /** Finds what serves a method. @throws {LaminaError} Unimplemented, naming what is unknown */
  find(service: string, method: string): Route {
    const routes = this.#services.get(service);
    if (routes === undefined) throw new LaminaError(Code.Unimplemented, `service ${service}`);
    const route = routes.get(method);
    if (route === undefined) throw new LaminaError(Code.Unimplemented, `method ${method}`);
    return route;
  }
}
