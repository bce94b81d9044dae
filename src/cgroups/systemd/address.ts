/**
 * Where systemd is to be reached: the system bus, a user's bus, or the manager's own socket where
 * there is no bus.
 */
import { Code, LaminaError } from '../../base/index.js';

/** Which systemd: the machine's, or the calling user's. */
export type BusKind = 'system' | 'user';

export interface BusAddress {
  /** Of a unix socket; abstract ones begin with NUL. */
  readonly path: string;
  /** The manager itself listens there: no greeting, no names, no match rules. */
  readonly isPrivate: boolean;
}

export interface AddressEnvironment {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** As this process sees itself. */
  readonly uid: number;
}

const SYSTEM_BUS = '/run/dbus/system_bus_socket';
const SYSTEM_PRIVATE = '/run/systemd/private';

/**
 * Parses the unix sockets out of a D-Bus address list, "unix:path=/a;unix:abstract=b,guid=…". Other
 * transports are passed over.
 * @see https://dbus.freedesktop.org/doc/dbus-specification.html#addresses
 */
export function parseBusAddresses(text: string): string[] {
  const paths: string[] = [];
  for (const address of text.split(';')) {
    const [, list] = /^unix:(.*)$/.exec(address.trim()) ?? [];
    const pairs = new Map(
      (list ?? '').split(',').map((pair): [string, string] => {
        const at = pair.indexOf('=');
        return [pair.slice(0, Math.max(at, 0)), unescapeValue(pair.slice(at + 1))];
      }),
    );
    const path = pairs.get('path');
    const abstract = pairs.get('abstract');
    if (path) paths.push(path);
    else if (abstract) paths.push(`\0${abstract}`);
  }
  return paths;
}

function unescapeValue(value: string): string {
  return value.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/**
 * The sockets to try, in this order.
 * @throws {LaminaError} Unavailable when the environment does not say where a user's bus is
 */
export function busAddresses(kind: BusKind, where: AddressEnvironment): BusAddress[] {
  return kind === 'system' ? systemAddresses(where) : userAddresses(where);
}

function systemAddresses({ env, uid }: AddressEnvironment): BusAddress[] {
  const given = env['DBUS_SYSTEM_BUS_ADDRESS'];
  const buses = given ? parseBusAddresses(given) : [SYSTEM_BUS];
  const addresses = buses.map((path) => ({ path, isPrivate: false }));
  // It takes root only.
  return uid === 0 ? [...addresses, { path: SYSTEM_PRIVATE, isPrivate: true }] : addresses;
}

function userAddresses({ env }: AddressEnvironment): BusAddress[] {
  const given = env['DBUS_SESSION_BUS_ADDRESS'];
  const runtimeDir = env['XDG_RUNTIME_DIR'];
  const buses = given ? parseBusAddresses(given) : [];
  const addresses = buses.map((path) => ({ path, isPrivate: false }));
  if (runtimeDir) {
    if (buses.length === 0) addresses.push({ path: `${runtimeDir}/bus`, isPrivate: false });
    addresses.push({ path: `${runtimeDir}/systemd/private`, isPrivate: true });
  }
  if (addresses.length > 0) return addresses;
  const what = 'no user bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set';
  throw new LaminaError(Code.Unavailable, what, { subject: 'DBUS_SESSION_BUS_ADDRESS' });
}
