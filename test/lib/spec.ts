/** OCI configurations made by hand, for `--config` and for the shim driven without a daemon. */

export interface BareSpecOptions {
  readonly args: readonly string[];
  /** An absolute path, or `rootfs` for the bundle's own. */
  readonly rootfs: string;
  readonly cgroupsPath: string;
  readonly terminal?: boolean;
  readonly annotations?: Readonly<Record<string, string>>;
  /** The container stays in the host's pid namespace. */
  readonly hostPid?: boolean;
  readonly memoryLimitBytes?: number;
  /** More of `linux.resources`. */
  readonly resources?: Readonly<Record<string, unknown>>;
  /** As in the spec: kind → list of `{ path, args?, env? }`. */
  readonly hooks?: Readonly<Record<string, readonly object[]>>;
}

const NAMESPACES = ['ipc', 'uts', 'mount', 'network'];

/** A small container: own namespaces, root, no capabilities beyond a few, hostname `bare`. */
export function bareSpec(options: BareSpecOptions): Record<string, unknown> {
  const capabilities = ['CAP_KILL', 'CAP_CHOWN', 'CAP_SETUID', 'CAP_SETGID'];
  const namespaces = options.hostPid === true ? NAMESPACES : [...NAMESPACES, 'pid'];
  const memory = options.memoryLimitBytes;
  return {
    ociVersion: '1.0.2',
    hostname: 'bare',
    root: { path: options.rootfs },
    process: bareProcess(options.args, { terminal: options.terminal ?? false, capabilities }),
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755'] },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666'],
      },
    ],
    annotations: options.annotations ?? {},
    hooks: options.hooks ?? {},
    linux: {
      cgroupsPath: options.cgroupsPath,
      namespaces: namespaces.map((type) => ({ type })),
      resources: {
        devices: [{ allow: false, access: 'rwm' }],
        ...(memory === undefined ? {} : { memory: { limit: memory } }),
        ...options.resources,
      },
    },
  };
}

/** The Process of a spec or of an Exec request. */
export function bareProcess(
  args: readonly string[],
  options: { readonly terminal?: boolean; readonly capabilities?: readonly string[] } = {},
): Record<string, unknown> {
  const sets = ['bounding', 'effective', 'permitted'];
  const capabilities = options.capabilities ?? [];
  return {
    args,
    cwd: '/',
    env: ['PATH=/bin', 'TERM=dumb'],
    terminal: options.terminal ?? false,
    user: { uid: 0, gid: 0 },
    noNewPrivileges: true,
    capabilities: Object.fromEntries(sets.map((set) => [set, capabilities])),
  };
}
