/** Platforms and which of them runs where, as containerd's platforms package decides it. */
import { arch, platform as os } from 'node:os';
import { cleanText, RegistryError } from './errors.js';

/** A platform as the image specification has it. */
export interface Platform {
  readonly os: string;
  /** Go's name: `amd64`, `arm64`, `386`. */
  readonly architecture: string;
  readonly variant?: string | undefined;
  readonly osVersion?: string | undefined;
  readonly osFeatures?: readonly string[] | undefined;
}

/** Node's names of architectures where Go has others. */
const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', loong64: 'loong64' };

const SYSTEMS = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(
    ' ',
  ),
);
const ARCHITECTURES = new Set(
  (
    '386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 ' +
    'mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm'
  ).split(' '),
);

/** Version and features may contain any character, as %XX. */
const OS_PART = /^([\w-]+)(?:\(([\w.%-]*)((?:\+[\w.%-]+)*)\))?$/;
const PART = /^[\w.-]+$/;

function normaliseArchitecture(name: string, given: string): [architecture: string, variant: string] {
  const variant = given.toLowerCase();
  switch (name.toLowerCase()) {
    case 'i386':
      return ['386', ''];
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return ['amd64', variant === 'v1' ? '' : variant];
    case 'aarch64':
    case 'arm64':
      if (['8', 'v8', 'v8.0'].includes(variant)) return ['arm64', ''];
      return ['arm64', ['9', '9.0', 'v9.0'].includes(variant) ? 'v9' : variant];
    case 'armhf':
      return ['arm', 'v7'];
    case 'armel':
      return ['arm', 'v6'];
    case 'arm':
      if (variant === '' || variant === '7') return ['arm', 'v7'];
      return ['arm', /^[568]$/.test(variant) ? `v${variant}` : variant];
    default:
      return [name.toLowerCase(), variant];
  }
}

function normaliseSystem(name: string): string {
  const lower = name.toLowerCase();
  if (lower === '') return os();
  return lower === 'macos' ? 'darwin' : lower;
}

/**
 * The one form of a platform that has several: `aarch64` is `arm64`, `arm64/v8` is `arm64`, `arm`
 * is `arm/v7`.
 */
export function normalisePlatform(platform: Platform): Platform {
  const [architecture, variant] = normaliseArchitecture(platform.architecture, platform.variant ?? '');
  const features = (platform.osFeatures ?? []).filter((feature) => feature !== '');
  return {
    os: normaliseSystem(platform.os),
    architecture,
    ...(variant === '' ? {} : { variant }),
    ...(platform.osVersion === undefined || platform.osVersion === '' ? {} : { osVersion: platform.osVersion }),
    ...(features.length === 0 ? {} : { osFeatures: features }),
  };
}

/** The platform this process runs on. */
export function hostPlatform(): Platform {
  return normalisePlatform({ os: os(), architecture: GO_ARCHITECTURES[arch()] ?? arch() });
}

/**
 * Parses `OS`, `ARCHITECTURE`, `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT`; behind the OS may
 * stand `(VERSION+FEATURE…)`. Missing parts are this machine's.
 * @throws RegistryError `bad-reference` for anything else
 */
export function parsePlatform(text: string): Platform {
  const bad = (why: string): RegistryError =>
    new RegistryError('bad-reference', `"${cleanText(text, 100)}" is no platform: ${why}`, { subject: 'platform' });
  const parts = text.split('/', 4);
  const system = OS_PART.exec(parts[0] ?? '');
  if (system === null || parts.length > 3 || !parts.slice(1).every((part) => PART.test(part))) {
    throw bad('use OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT');
  }
  const decode = (value: string): string => {
    try {
      return decodeURIComponent(value);
    } catch {
      throw bad(`"${value}" cannot be decoded`);
    }
  };
  const [, name = '', version = '', features = ''] = system;
  const details = {
    ...(version === '' ? {} : { osVersion: decode(version) }),
    ...(features === '' ? {} : { osFeatures: features.slice(1).split('+').map(decode) }),
  };
  if (parts.length > 1) {
    return normalisePlatform({ os: name, architecture: parts[1] ?? '', variant: parts[2], ...details });
  }
  const own = hostPlatform();
  if (SYSTEMS.has(normaliseSystem(name))) return normalisePlatform({ ...own, os: name, ...details });
  const alone = normalisePlatform({ os: own.os, architecture: name });
  if (!ARCHITECTURES.has(alone.architecture) || parts[0] !== name) throw bad('it is neither a system nor a machine');
  return alone;
}

/** `linux/arm64/v9`. */
export function formatPlatform({ os: system, architecture, variant }: Platform): string {
  return [system, architecture, variant ?? ''].filter((part) => part !== '').join('/');
}

/** arm64 variants: the highest minor of v9 and of v8 that runs. v9.N has what v8.(N+5) has. */
function arm64Variants(variant: string): string[] {
  const match = /^v([89])(?:\.(\d))?$/.exec(variant === '' ? 'v8' : variant);
  if (match === null) return [];
  const minor = Number(match[2] ?? 0);
  if (match[1] === '9' && minor > 7) return [];
  const down = (major: number, from: number): string[] =>
    Array.from({ length: from + 1 }, (_, index) => (index === from ? `v${major}` : `v${major}.${from - index}`));
  return match[1] === '9' ? [...down(9, minor), ...down(8, Math.min(9, minor + 5))] : down(8, minor);
}

/**
 * The platforms that run on one, best first: itself, older variants, and the architecture that it
 * runs as well.
 */
function runnable(platform: Platform): Platform[] {
  const { architecture, variant = '' } = platform;
  const as = (other: string, version: string): Platform =>
    normalisePlatform({ ...platform, architecture: other, variant: version });
  const version = Number(/^v(\d+)$/.exec(variant)?.[1] ?? 0);
  const older = (least: number): Platform[] =>
    Array.from({ length: Math.max(0, Math.min(version, 64) - least) }, (_, index) =>
      as(architecture, `v${version - 1 - index}`),
    );
  switch (architecture) {
    case 'amd64':
      return [platform, ...older(1), as('386', '')];
    case 'arm':
      return [platform, ...older(5)];
    case 'arm64': {
      const variants = arm64Variants(variant);
      if (variants.length === 0) return [];
      const inArm = ['v8', 'v7', 'v6', 'v5'].map((name) => as('arm', name));
      return [...variants.map((name) => as('arm64', name)), ...inArm];
    }
    default:
      return [platform];
  }
}

/**
 * Windows versions are equal when major, minor and build are; without one of them anything runs.
 */
function isSameVersion(system: string, wanted: string | undefined, offered: string | undefined): boolean {
  if (system !== 'windows' || wanted === undefined || offered === undefined) return true;
  const start = (version: string): string => version.split('.').slice(0, 3).join('.');
  return start(wanted) === start(offered);
}

/**
 * How well an image for `offered` runs on `wanted`: 0 is best, undefined means that it does not.
 *
 * amd64 runs older amd64 variants and 386, arm/v7 runs v6 and v5, arm64 runs older arm64 variants
 * and arm. An image that needs features of the OS needs all of them.
 */
export function platformRank(wanted: Platform, offered: Platform): number | undefined {
  const offer = normalisePlatform(offered);
  const features = new Set(wanted.osFeatures ?? []);
  const rank = runnable(normalisePlatform(wanted)).findIndex(
    (own) =>
      own.os === offer.os &&
      own.architecture === offer.architecture &&
      (own.variant ?? '') === (offer.variant ?? '') &&
      isSameVersion(own.os, own.osVersion, offer.osVersion) &&
      (offer.osFeatures ?? []).every((feature) => features.has(feature)),
  );
  return rank < 0 ? undefined : rank;
}
