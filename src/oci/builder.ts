/**
 * Builds OCI specs from small options:
 *
 *     const spec = buildSpec(withRootfs('/srv/root'), withArgs('nginx'), withMemoryLimit(64 * 1024 * 1024));
 *
 * Options apply in order, so a later one sees and may replace what an earlier one did.
 */
import type {
  Capabilities,
  Device,
  IdMapping,
  Linux,
  LinuxResources,
  Mount,
  Namespace,
  NamespaceType,
  OciSpec,
  Process,
  Rlimit,
  User,
} from './spec.js';

/** One change of a spec, in place. */
export type SpecOption = (spec: OciSpec) => void;

/** What containerd and Docker give a container that asks for nothing. */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

const DEFAULT_NAMESPACES: readonly NamespaceType[] = ['pid', 'network', 'ipc', 'uts', 'mount'];
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What a container cannot read: kernel memory, hardware and timing details. */
const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
  '/proc/scsi',
];

/** What a container cannot change. */
const READONLY_PATHS: readonly string[] = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

function defaultMounts(): Mount[] {
  const mount = (destination: string, type: string, source: string, options: string[]) => ({
    destination,
    type,
    source,
    options,
  });
  return [
    mount('/proc', 'proc', 'proc', ['nosuid', 'noexec', 'nodev']),
    mount('/dev', 'tmpfs', 'tmpfs', ['nosuid', 'strictatime', 'mode=755', 'size=65536k']),
    mount('/dev/pts', 'devpts', 'devpts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']),
    mount('/dev/shm', 'tmpfs', 'shm', ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k']),
    mount('/dev/mqueue', 'mqueue', 'mqueue', ['nosuid', 'noexec', 'nodev']),
    mount('/sys', 'sysfs', 'sysfs', ['nosuid', 'noexec', 'nodev', 'ro']),
    mount('/sys/fs/cgroup', 'cgroup', 'cgroup', ['nosuid', 'noexec', 'nodev', 'relatime', 'ro']),
  ];
}

function capabilitySets(names: readonly string[]): Capabilities {
  return { bounding: [...names], effective: [...names], permitted: [...names] };
}

/**
 * A Linux container running `sh` as root in `rootfs`, with namespaces of its own, the usual mounts
 * and no devices beyond the runtime's.
 */
export function defaultSpec(): OciSpec {
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: ['sh'],
      env: [`PATH=${DEFAULT_PATH}`],
      cwd: '/',
      capabilities: capabilitySets(DEFAULT_CAPABILITIES),
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs' },
    mounts: defaultMounts(),
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: DEFAULT_NAMESPACES.map((type) => ({ type })),
      maskedPaths: [...MASKED_PATHS],
      readonlyPaths: [...READONLY_PATHS],
    },
  };
}

/** The default spec with these options. */
export function buildSpec(...options: readonly SpecOption[]): OciSpec {
  return applyOptions(defaultSpec(), ...options);
}

/** Applies options to a spec, in place, and returns it. */
export function applyOptions(spec: OciSpec, ...options: readonly SpecOption[]): OciSpec {
  for (const option of options) option(spec);
  return spec;
}

/** Several options as one; absent ones (`tty && withTty()`) are skipped. */
export function compose(...options: readonly (SpecOption | false | undefined)[]): SpecOption {
  return (spec) => {
    for (const option of options) if (option) option(spec);
  };
}

function processOf(spec: OciSpec): Process {
  spec.process ??= { cwd: '/' };
  return spec.process;
}

function linuxOf(spec: OciSpec): Linux {
  spec.linux ??= {};
  return spec.linux;
}

function resourcesOf(spec: OciSpec): LinuxResources {
  const linux = linuxOf(spec);
  linux.resources ??= {};
  return linux.resources;
}

/** The command and its arguments. */
export function withArgs(...args: readonly string[]): SpecOption {
  return (spec) => {
    processOf(spec).args = [...args];
  };
}

/** Sets variables; undefined removes one. */
export function withEnv(env: Readonly<Record<string, string | undefined>>): SpecOption {
  return (spec) => {
    const process = processOf(spec);
    const kept = (process.env ?? []).filter((entry) => !Object.hasOwn(env, entry.split('=', 1)[0] ?? ''));
    const added = Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]));
    process.env = [...kept, ...added];
  };
}

export function withCwd(cwd: string): SpecOption {
  return (spec) => {
    processOf(spec).cwd = cwd;
  };
}

export function withUser(user: User): SpecOption {
  return (spec) => {
    processOf(spec).user = { ...user };
  };
}

/** A terminal, optionally of a size; adds TERM unless it is set. */
export function withTty(size?: { readonly columns: number; readonly rows: number }): SpecOption {
  return (spec) => {
    const process = processOf(spec);
    process.terminal = true;
    if (size !== undefined) process.consoleSize = { width: size.columns, height: size.rows };
    if (!process.env?.some((entry) => entry.startsWith('TERM='))) withEnv({ TERM: 'xterm' })(spec);
  };
}

/** Exactly these capabilities: `CAP_KILL`. */
export function withCapabilities(...names: readonly string[]): SpecOption {
  return (spec) => {
    processOf(spec).capabilities = capabilitySets(names);
  };
}

/** These capabilities besides those it has. */
export function withAddedCapabilities(...names: readonly string[]): SpecOption {
  return (spec) => {
    const bounding = processOf(spec).capabilities?.bounding ?? [];
    processOf(spec).capabilities = capabilitySets([...new Set([...bounding, ...names])]);
  };
}

/** Replaces limits of the same type. */
export function withRlimits(...rlimits: readonly Rlimit[]): SpecOption {
  return (spec) => {
    const process = processOf(spec);
    const types = new Set(rlimits.map((rlimit) => rlimit.type));
    process.rlimits = [...(process.rlimits ?? []).filter((rlimit) => !types.has(rlimit.type)), ...rlimits];
  };
}

export function withNoNewPrivileges(on: boolean): SpecOption {
  return (spec) => {
    processOf(spec).noNewPrivileges = on;
  };
}

/** -1000 to 1000. */
export function withOomScoreAdj(value: number): SpecOption {
  return (spec) => {
    processOf(spec).oomScoreAdj = value;
  };
}

/** The root filesystem: absolute, or relative to the bundle. */
export function withRootfs(path: string, options: { readonly readonly?: boolean } = {}): SpecOption {
  return (spec) => {
    spec.root = { path, readonly: options.readonly ?? false };
  };
}

export function withHostname(hostname: string): SpecOption {
  return (spec) => {
    spec.hostname = hostname;
  };
}

/** Adds mounts; one with the destination of another replaces it. */
export function withMounts(...mounts: readonly Mount[]): SpecOption {
  return (spec) => {
    const destinations = new Set(mounts.map((mount) => mount.destination));
    spec.mounts = [...(spec.mounts ?? []).filter((mount) => !destinations.has(mount.destination)), ...mounts];
  };
}

/** Binds a directory or file of the host. */
export function withBindMount(
  source: string,
  destination: string,
  options: { readonly readonly?: boolean } = {},
): SpecOption {
  return withMounts({ destination, type: 'bind', source, options: ['rbind', options.readonly ? 'ro' : 'rw'] });
}

export function withAnnotations(annotations: Readonly<Record<string, string>>): SpecOption {
  return (spec) => {
    spec.annotations = { ...spec.annotations, ...annotations };
  };
}

/** `/parent/name`, or for the systemd driver `slice:prefix:name`. */
export function withCgroupsPath(path: string): SpecOption {
  return (spec) => {
    linuxOf(spec).cgroupsPath = path;
  };
}

/** Exactly these namespaces; a name makes a new one. */
export function withNamespaces(...namespaces: readonly (NamespaceType | Namespace)[]): SpecOption {
  return (spec) => {
    linuxOf(spec).namespaces = namespaces.map((entry) => (typeof entry === 'string' ? { type: entry } : { ...entry }));
  };
}

/** Sets one namespace: new, or with a path joined. */
export function withNamespace(type: NamespaceType, path?: string): SpecOption {
  return (spec) => {
    withoutNamespace(type)(spec);
    linuxOf(spec).namespaces?.push(path === undefined ? { type } : { type, path });
  };
}

/** Shares the host's namespace of this type. */
export function withoutNamespace(type: NamespaceType): SpecOption {
  return (spec) => {
    const linux = linuxOf(spec);
    linux.namespaces = (linux.namespaces ?? []).filter((namespace) => namespace.type !== type);
  };
}

/** A new user namespace with these mappings. */
export function withUserNamespace(uidMappings: readonly IdMapping[], gidMappings: readonly IdMapping[]): SpecOption {
  return (spec) => {
    withNamespace('user')(spec);
    Object.assign(linuxOf(spec), { uidMappings: [...uidMappings], gidMappings: [...gidMappings] });
  };
}

/** Device nodes, with permission to use them. */
export function withDevices(...devices: readonly Device[]): SpecOption {
  return (spec) => {
    const linux = linuxOf(spec);
    linux.devices = [...(linux.devices ?? []), ...devices];
    const rules = devices.map(({ type, major, minor }) => ({
      allow: true,
      type,
      ...(major === undefined ? {} : { major }),
      ...(minor === undefined ? {} : { minor }),
      access: 'rwm',
    }));
    resourcesOf(spec).devices = [...(resourcesOf(spec).devices ?? []), ...rules];
  };
}

/** Merges resources, controller by controller. */
export function withResources(resources: LinuxResources): SpecOption {
  return (spec) => {
    const own = resourcesOf(spec);
    const { memory, cpu, pids, blockIO, unified, ...rest } = resources;
    Object.assign(own, rest);
    if (memory !== undefined) own.memory = { ...own.memory, ...memory };
    if (cpu !== undefined) own.cpu = { ...own.cpu, ...cpu };
    if (pids !== undefined) own.pids = { ...own.pids, ...pids };
    if (blockIO !== undefined) own.blockIO = { ...own.blockIO, ...blockIO };
    if (unified !== undefined) own.unified = { ...own.unified, ...unified };
  };
}

/** Most memory in bytes; `swapBytes` more of swap when given. */
export function withMemoryLimit(limitBytes: number, swapBytes?: number): SpecOption {
  return withResources({
    memory: { limit: limitBytes, ...(swapBytes === undefined ? {} : { swap: limitBytes + swapBytes }) },
  });
}

/** CPU time per period, both in microseconds: 150000 of 100000 is one and a half CPUs. */
export function withCpuQuota(quotaUsec: number, periodUsec = 100_000): SpecOption {
  return withResources({ cpu: { quota: quotaUsec, period: periodUsec } });
}

/** Relative weight; 1024 is the usual. */
export function withCpuShares(shares: number): SpecOption {
  return withResources({ cpu: { shares } });
}

export function withPidsLimit(limit: number): SpecOption {
  return withResources({ pids: { limit } });
}
