/**
 * The connection to systemd that several share: made when first needed, and again when it was lost.
 */
import { apart, Code, codeOf, LaminaError } from '../../base/index.js';
import { type AddressEnvironment, type BusAddress, type BusKind, busAddresses } from './address.js';
import { BusConnection, type Deadline } from './connection.js';
import { ConnectionLostError } from './errors.js';

export class BusLink {
  readonly #bus: BusKind;
  readonly #environment: AddressEnvironment | undefined;
  #connecting: Promise<BusConnection> | undefined;
  #connection: BusConnection | undefined;

  /** @param environment default: this process's, as it is when connecting */
  constructor(bus: BusKind, environment: AddressEnvironment | undefined) {
    this.#bus = bus;
    this.#environment = environment;
  }

  /**
   * Runs a step on the connection; when that is lost meanwhile, once more on a new one.
   * @param mayRepeat whether the step may be run twice, asked after the first
   * @throws {LaminaError} Unavailable, PermissionDenied, DeadlineExceeded; what the step throws
   */
  async run<T>(
    deadline: Deadline,
    step: (connection: BusConnection) => Promise<T>,
    mayRepeat: () => boolean = () => true,
  ): Promise<T> {
    try {
      return await step(await this.#connect(deadline));
    } catch (error) {
      if (!(error instanceof ConnectionLostError) || !mayRepeat()) throw error;
      return await step(await this.#connect(deadline));
    }
  }

  /** Closes the connection; the next step makes another. */
  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  async #connect(deadline: Deadline): Promise<BusConnection> {
    if (this.#connection?.isLost === false) return this.#connection;
    // What comes on it is everybody's.
    this.#connecting ??= apart(() => this.#open(deadline)).finally(() => {
      this.#connecting = undefined;
    });
    return await this.#connecting;
  }

  async #open(deadline: Deadline): Promise<BusConnection> {
    const where = this.#environment ?? { env: process.env, uid: process.geteuid?.() ?? -1 };
    this.#connection = await openFirst(busAddresses(this.#bus, where), deadline);
    return this.#connection;
  }
}

/** Connects to the first address where somebody listens. @throws {LaminaError} the first failure */
async function openFirst(addresses: readonly BusAddress[], deadline: Deadline): Promise<BusConnection> {
  let failure: unknown;
  for (const address of addresses) {
    try {
      return await BusConnection.open(address, deadline);
    } catch (error) {
      // A peer that is there and does not answer is no reason to look elsewhere.
      if (codeOf(error) !== Code.Unavailable) throw error;
      failure ??= error;
    }
  }
  throw failure ?? new LaminaError(Code.Unavailable, 'systemd: no bus to connect to');
}
