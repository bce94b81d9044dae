/**
 * A group whose files are in memory and take writes as the kernel's do, as far as one value depends
 * on another.
 */
import { basename, dirname } from 'node:path';
import { CgroupFileError } from '../../../../src/cgroups/index.js';
import type { CgroupIo } from '../../../../src/cgroups/resources/index.js';

export const DIR = '/fake/group';

/** An error as Node's fs throws it. */
export function errno(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: refused, write '${path}'`), { code, syscall: 'write', errno: -1, path });
}

const KIB = 1024;
/** What v1 shows where there is no limit. */
export const V1_UNLIMITED = '9223372036854771712\n';

/** A fresh group on v2, with every controller. */
export const V2_FILES: Readonly<Record<string, string>> = {
  'cgroup.controllers': 'cpuset cpu io memory hugetlb pids rdma misc\n',
  'cgroup.subtree_control': '\n',
  'cgroup.freeze': '0\n',
  'pids.max': 'max\n',
  'memory.current': `${64 * KIB}\n`,
  'memory.max': 'max\n',
  'memory.low': '0\n',
  'memory.min': '0\n',
  'memory.high': 'max\n',
  'memory.swap.max': 'max\n',
  'memory.oom.group': '0\n',
  'io.max': '',
  'io.weight': 'default 100\n',
  'cpu.weight': '100\n',
  'cpu.idle': '0\n',
  'cpu.max': 'max 100000\n',
  'cpu.max.burst': '0\n',
  'cpuset.cpus': '\n',
  'cpuset.mems': '\n',
  'hugetlb.2MB.max': 'max\n',
  'hugetlb.2MB.rsvd.max': 'max\n',
  'hugetlb.1GB.max': 'max\n',
  'hugetlb.1GB.rsvd.max': 'max\n',
  'rdma.max': 'mlx5_0 hca_handle=max hca_object=max\nmlx5_1 hca_handle=max hca_object=max\n',
  'misc.max': 'res_a max\n',
};

/** A fresh group on v1, all hierarchies in one directory. */
export const V1_FILES: Readonly<Record<string, string>> = {
  'pids.max': 'max\n',
  'memory.usage_in_bytes': `${64 * KIB}\n`,
  'memory.max_usage_in_bytes': `${80 * KIB}\n`,
  'memory.limit_in_bytes': V1_UNLIMITED,
  'memory.memsw.limit_in_bytes': V1_UNLIMITED,
  'memory.soft_limit_in_bytes': V1_UNLIMITED,
  'memory.kmem.tcp.limit_in_bytes': V1_UNLIMITED,
  'memory.swappiness': '60\n',
  'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 0\n',
  'blkio.weight': '500\n',
  'blkio.weight_device': '',
  'blkio.leaf_weight': '500\n',
  'blkio.leaf_weight_device': '',
  'blkio.throttle.read_bps_device': '',
  'blkio.throttle.write_bps_device': '',
  'blkio.throttle.read_iops_device': '',
  'blkio.throttle.write_iops_device': '',
  'cpu.shares': '1024\n',
  'cpu.cfs_quota_us': '-1\n',
  'cpu.cfs_period_us': '100000\n',
  'cpu.cfs_burst_us': '0\n',
  'cpu.idle': '0\n',
  'cpu.rt_runtime_us': '0\n',
  'cpu.rt_period_us': '1000000\n',
  'cpuset.cpus': '\n',
  'cpuset.mems': '\n',
  'hugetlb.2MB.limit_in_bytes': V1_UNLIMITED,
  'hugetlb.2MB.rsvd.limit_in_bytes': V1_UNLIMITED,
  'rdma.max': 'mlx5_0 hca_handle=max hca_object=max\n',
  'net_cls.classid': '0\n',
  'net_prio.ifpriomap': 'lo 0\neth0 0\n',
  'devices.list': 'c 1:3 rwm\nc 5:* rw\n',
  'devices.allow': '',
  'devices.deny': '',
};

type Lines = Map<string, string>;

function linesOf(content: string): Lines {
  const lines = content.split('\n').filter(Boolean);
  return new Map(lines.map((line) => [line.split(' ', 1)[0] as string, line.slice(line.indexOf(' ') + 1)]));
}

function textOf(lines: Lines): string {
  return [...lines].map(([key, value]) => `${key} ${value}\n`).join('');
}

/** "a=1 b=2" laid over another. */
function mergePairs(earlier: string, later: string): string {
  const pairs = [...earlier.split(' '), ...later.split(' ')].map((pair) => pair.split('=') as [string, string]);
  return [...new Map(pairs)].map(([key, value]) => `${key}=${value}`).join(' ');
}

const NO_IO_LIMIT = 'rbps=max wbps=max riops=max wiops=max';
const ALL_DEVICES = 'a *:*';

export class FakeGroup implements CgroupIo {
  readonly files: Map<string, string>;
  /** Every write that was taken or refused, "FILE=VALUE", refused ones with " !ERRNO". */
  readonly log: string[] = [];
  /** The files of the writes that were taken for slow ones. */
  readonly slow: string[] = [];
  /** The errno a write is to fail with. */
  refuse: (file: string, data: string, index: number) => string | undefined = () => undefined;

  constructor(files: Readonly<Record<string, string>> = V2_FILES, ...without: string[]) {
    this.files = new Map(Object.entries(files).filter(([name]) => !without.includes(name)));
  }

  read(path: string): string {
    const content = dirname(path) === DIR ? this.files.get(basename(path)) : undefined;
    if (content === undefined) throw new CgroupFileError('read', path, errno('ENOENT', path));
    return content;
  }

  write(path: string, data: string): void {
    const file = basename(path);
    const code = this.refuse(file, data, this.log.length) ?? this.#write(file, data);
    this.log.push(`${file}=${data}${code === undefined ? '' : ` !${code}`}`);
    if (code !== undefined) throw new CgroupFileError('write', path, errno(code, path), data);
  }

  /** As `write`, later. */
  async writeSlowly(path: string, data: string): Promise<void> {
    await Promise.resolve();
    this.slow.push(path.slice(path.lastIndexOf('/') + 1));
    this.write(path, data);
  }

  isDirectory(path: string): boolean {
    return path === DIR && this.files.size > 0;
  }

  /** Another one that shows the same now. */
  clone(): FakeGroup {
    return new FakeGroup(this.snapshot());
  }

  /** Refuses one write, counted from now. */
  refuseNth(offset: number, code: string): void {
    const at = this.log.length + offset;
    this.refuse = (_file, _data, index) => (index === at ? code : undefined);
  }

  snapshot(): Record<string, string> {
    return Object.fromEntries(this.files);
  }

  /** With sorted lines, where their order says nothing. */
  sorted(): Record<string, string> {
    return Object.fromEntries(
      [...this.files].map(([name, content]) => [name, content.split('\n').toSorted().join('\n')]),
    );
  }

  #number(file: string): number {
    const value = (this.files.get(file) ?? 'max').split(' ', 1)[0]?.trim();
    return value === 'max' || value === '-1' || value === V1_UNLIMITED.trim()
      ? Number.POSITIVE_INFINITY
      : Number(value);
  }

  /** Stores what the kernel would show; the errno if it would refuse. */
  #write(file: string, data: string): string | undefined {
    if (!this.files.has(file)) return 'ENOENT';
    const value = data.trim();
    const invalid = this.#invalid(file, value);
    if (invalid) return 'EINVAL';
    if (file === 'rdma.max' && !linesOf(this.files.get(file) as string).has(value.split(' ', 1)[0] as string))
      return 'ENODEV';
    if (/^devices\.(allow|deny)$/.test(file)) this.#changeDevices(file, value);
    else this.files.set(file, this.#shown(file, value));
    if (file === 'cpu.idle') this.#idle(value);
    return undefined;
  }

  #invalid(file: string, value: string): boolean {
    const number =
      value.startsWith('max') || value === '-1' || value === V1_UNLIMITED.trim()
        ? Number.POSITIVE_INFINITY
        : Number.parseInt(value, 10);
    switch (file) {
      case 'cpu.weight':
      case 'cpu.shares':
        return this.#number('cpu.idle') === 1;
      case 'cpu.max.burst':
        return number > this.#number('cpu.max');
      case 'cpu.max':
        return number < Math.max(1000, this.#number('cpu.max.burst'));
      case 'cpu.cfs_burst_us':
        return number > this.#number('cpu.cfs_quota_us');
      case 'cpu.cfs_quota_us':
        return number < this.#number('cpu.cfs_burst_us');
      case 'memory.limit_in_bytes':
        return number > this.#number('memory.memsw.limit_in_bytes');
      case 'memory.memsw.limit_in_bytes':
        return number < this.#number('memory.limit_in_bytes');
      default:
        return false;
    }
  }

  #shown(file: string, value: string): string {
    const content = this.files.get(file) as string;
    const [key = '', ...rest] = value.split(' ');
    const lines = linesOf(content);
    if (file === 'io.max' || file === 'rdma.max') {
      const merged = mergePairs(lines.get(key) ?? NO_IO_LIMIT, rest.join(' '));
      if (merged === NO_IO_LIMIT) lines.delete(key);
      else lines.set(key, merged);
      return textOf(lines);
    }
    if (/^io\..*weight$/.test(file) && content.startsWith('default')) {
      if (rest[0] === 'default') lines.delete(key);
      else if (rest.length === 0) lines.set('default', key);
      else lines.set(key, rest.join(' '));
      return textOf(lines);
    }
    if (/_device$|ifpriomap$|^misc/.test(file)) {
      if (/_device$/.test(file) && /^(0|default)$/.test(rest.join())) lines.delete(key);
      else lines.set(key, rest.join(' '));
      return textOf(lines);
    }
    if (file === 'cpu.max' && rest.length === 0) return `${value} ${content.split(' ')[1]}`;
    if (file === 'memory.oom_control') return content.replace(/disable \d/, `disable ${value}`);
    if (file.endsWith('_in_bytes') && value === '-1') return V1_UNLIMITED;
    return `${value}\n`;
  }

  /** An idle group shows no weight; when it is not idle any more it has the default. */
  #idle(value: string): void {
    const weight = this.files.has('cpu.weight') ? 'cpu.weight' : 'cpu.shares';
    const normal = weight === 'cpu.weight' ? '100\n' : '1024\n';
    const shown = this.files.get(weight);
    if (value === '1') this.files.set(weight, '0\n');
    else if (shown === '0\n') this.files.set(weight, normal);
  }

  #changeDevices(file: string, value: string): void {
    const [type = '', number = '', letters = ''] = value.split(' ');
    const list = new Map<string, string>();
    for (const line of (this.files.get('devices.list') as string).split('\n').filter(Boolean)) {
      const at = line.lastIndexOf(' ');
      list.set(line.slice(0, at), line.slice(at + 1));
    }
    const device = `${type} ${number}`;
    if (type === 'a') {
      list.clear();
      if (file === 'devices.allow') list.set(ALL_DEVICES, 'rwm');
    } else if (!list.has(ALL_DEVICES)) {
      const old = list.get(device) ?? '';
      const access = [...'rwm'].filter((letter) =>
        file === 'devices.allow'
          ? old.includes(letter) || letters.includes(letter)
          : old.includes(letter) && !letters.includes(letter),
      );
      if (access.length === 0) list.delete(device);
      else list.set(device, access.join(''));
    }
    // Sorted, as the order of the kernel's list says nothing.
    this.files.set('devices.list', textOf(new Map([...list].sort())));
  }
}
