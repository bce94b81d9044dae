/**
 * Types of the OCI runtime specification 1.2 (config.json), Linux part: the shape runtimes read,
 * spelled as they spell it.
 *
 * All byte counts, shares and limits are JSON numbers; int64 values beyond 2^53 (memory limits
 * meaning "no limit") lose precision in their last digits, which the kernel rounds to pages anyway.
 * @see https://github.com/opencontainers/runtime-spec (config.md, config-linux.md)
 */

/** config.json. */
export interface OciSpec {
  ociVersion: string;
  process?: Process;
  root?: Root;
  hostname?: string;
  domainname?: string;
  mounts?: Mount[];
  hooks?: Hooks;
  annotations?: Record<string, string>;
  linux?: Linux;
}

/** config.json `process`, and the process.json given to exec. */
export interface Process {
  terminal?: boolean;
  consoleSize?: ConsoleSize;
  user?: User;
  args?: string[];
  commandLine?: string;
  /** `K=V` strings. */
  env?: string[];
  cwd: string;
  capabilities?: Capabilities;
  rlimits?: Rlimit[];
  noNewPrivileges?: boolean;
  apparmorProfile?: string;
  oomScoreAdj?: number;
  scheduler?: Scheduler;
  selinuxLabel?: string;
  ioPriority?: IoPriority;
  execCPUAffinity?: { initial?: string; final?: string };
}

/** Size of a terminal in characters. */
export interface ConsoleSize {
  height: number;
  width: number;
}

export interface User {
  uid: number;
  gid: number;
  umask?: number;
  additionalGids?: number[];
  username?: string;
}

/** Capability sets, names as in capabilities(7): `CAP_KILL`. */
export interface Capabilities {
  bounding?: string[];
  effective?: string[];
  inheritable?: string[];
  permitted?: string[];
  ambient?: string[];
}

/** One setrlimit(2); `type` is `RLIMIT_NOFILE` and the like. */
export interface Rlimit {
  type: string;
  hard: number;
  soft: number;
}

export interface Scheduler {
  policy: string;
  nice?: number;
  priority?: number;
  flags?: string[];
  runtime?: number;
  deadline?: number;
  period?: number;
}

export interface IoPriority {
  class: string;
  priority: number;
}

export interface Root {
  /** Absolute, or relative to the bundle. */
  path: string;
  readonly?: boolean;
}

export interface Mount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
  uidMappings?: IdMapping[];
  gidMappings?: IdMapping[];
}

export interface Hooks {
  prestart?: Hook[];
  createRuntime?: Hook[];
  createContainer?: Hook[];
  startContainer?: Hook[];
  poststart?: Hook[];
  poststop?: Hook[];
}

export interface Hook {
  path: string;
  args?: string[];
  env?: string[];
  /** Seconds. */
  timeout?: number;
}

export interface Linux {
  uidMappings?: IdMapping[];
  gidMappings?: IdMapping[];
  sysctl?: Record<string, string>;
  resources?: LinuxResources;
  /** A path (`/parent/name`), or `slice:prefix:name` for the systemd driver. */
  cgroupsPath?: string;
  namespaces?: Namespace[];
  devices?: Device[];
  netDevices?: Record<string, { name?: string }>;
  seccomp?: Seccomp;
  rootfsPropagation?: string;
  maskedPaths?: string[];
  readonlyPaths?: string[];
  mountLabel?: string;
  intelRdt?: Record<string, unknown>;
  personality?: { domain: string; flags?: string[] };
  timeOffsets?: Record<string, { secs?: number; nanosecs?: number }>;
}

export interface IdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

export type NamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time';

export interface Namespace {
  type: NamespaceType;
  /** Join this namespace (`/proc/PID/ns/net`) instead of making one. */
  path?: string;
}

export interface Device {
  path: string;
  /** `c`, `b`, `u`, `p`. */
  type: string;
  major?: number;
  minor?: number;
  fileMode?: number;
  uid?: number;
  gid?: number;
}

/** Passed through to the runtime unread. */
export interface Seccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  flags?: string[];
  listenerPath?: string;
  listenerMetadata?: string;
  syscalls?: Record<string, unknown>[];
}

/** config.json `linux.resources`, and what an update carries. */
export interface LinuxResources {
  devices?: DeviceRule[];
  memory?: MemoryResources;
  cpu?: CpuResources;
  pids?: PidsResources;
  blockIO?: BlockIoResources;
  hugepageLimits?: HugepageLimit[];
  network?: NetworkResources;
  /** HCA device name -> limits. */
  rdma?: Record<string, RdmaLimits>;
  /** cgroup v2 file name -> value. */
  unified?: Record<string, string>;
}

/** A rule of the device cgroup; absent type, major or minor match all. */
export interface DeviceRule {
  allow: boolean;
  /** `a`, `c` or `b`. */
  type?: string;
  major?: number;
  minor?: number;
  /** Of `rwm`. */
  access?: string;
}

/** Bytes; -1 is "no limit". */
export interface MemoryResources {
  limit?: number;
  reservation?: number;
  /** Memory and swap together. */
  swap?: number;
  kernel?: number;
  kernelTCP?: number;
  /** 0 to 100; cgroup v1 only. */
  swappiness?: number;
  disableOOMKiller?: boolean;
  useHierarchy?: boolean;
  checkBeforeUpdate?: boolean;
}

/** Times in microseconds. */
export interface CpuResources {
  shares?: number;
  quota?: number;
  burst?: number;
  period?: number;
  realtimeRuntime?: number;
  realtimePeriod?: number;
  /** List format: `0-3,7`. */
  cpus?: string;
  mems?: string;
  idle?: number;
}

export interface PidsResources {
  limit?: number;
}

export interface BlockIoResources {
  /** 10 to 1000. */
  weight?: number;
  leafWeight?: number;
  weightDevice?: WeightDevice[];
  throttleReadBpsDevice?: ThrottleDevice[];
  throttleWriteBpsDevice?: ThrottleDevice[];
  throttleReadIOPSDevice?: ThrottleDevice[];
  throttleWriteIOPSDevice?: ThrottleDevice[];
}

export interface WeightDevice {
  major: number;
  minor: number;
  weight?: number;
  leafWeight?: number;
}

export interface ThrottleDevice {
  major: number;
  minor: number;
  /** Bytes or operations per second. */
  rate: number;
}

export interface HugepageLimit {
  /** `2MB`, `1GB`. */
  pageSize: string;
  /** Bytes. */
  limit: number;
}

/** cgroup v1 only. */
export interface NetworkResources {
  classID?: number;
  priorities?: { name: string; priority: number }[];
}

export interface RdmaLimits {
  hcaHandles?: number;
  hcaObjects?: number;
}

/** What `<runtime> state` prints. */
export interface ContainerState {
  ociVersion: string;
  id: string;
  /** `creating`, `created`, `running`, `paused`, `stopped`. */
  status: string;
  /** 0 when stopped. */
  pid: number;
  bundle: string;
  rootfs?: string;
  created?: string;
  owner?: string;
  annotations?: Record<string, string>;
}

/** What `<runtime> features` prints. @see runtime-spec features.md */
export interface Features {
  ociVersionMin?: string;
  ociVersionMax?: string;
  hooks?: string[];
  mountOptions?: string[];
  linux?: {
    namespaces?: string[];
    capabilities?: string[];
    cgroup?: { v1?: boolean; v2?: boolean; systemd?: boolean; systemdUser?: boolean; rdma?: boolean };
    seccomp?: Record<string, unknown>;
    apparmor?: { enabled?: boolean };
    selinux?: { enabled?: boolean };
    intelRdt?: { enabled?: boolean };
    mountExtensions?: Record<string, unknown>;
  };
  annotations?: Record<string, string>;
  potentiallyUnsafeConfigAnnotations?: string[];
}
