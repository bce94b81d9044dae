/** What a group is set to, as the kernel and systemd say it. */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, messageOf } from '../../../../src/base/index.js';
import { mustRun, runCommand } from '../../../lib/command.js';
import type { Disk } from './case.js';

/** File or property → value. */
export type Settings = ReadonlyMap<string, string>;

/**
 * Files that can be written and yet are no settings: members, commands, PSI triggers, and marks
 * that are reset by writing. cpu.weight.nice is cpu.weight once more.
 */
const NO_SETTING =
  /^cgroup\.(procs|threads|kill)$|^memory\.reclaim$|(?<!^cgroup)\.pressure$|\.peak$|^cpu\.weight\.nice$/;

/** Read-only, but decided by settings. */
const EFFECTIVE = /^cpuset\.(cpus|mems)\.effective$/;

const READABLE_BY_OWNER = 0o400;
const WRITABLE_BY_OWNER = 0o200;

function isSetting(dir: string, name: string): boolean {
  if (EFFECTIVE.test(name)) return true;
  const { mode } = statSync(join(dir, name));
  const isFile = (mode & 0o170000) === 0o100000;
  return isFile && (mode & READABLE_BY_OWNER) !== 0 && (mode & WRITABLE_BY_OWNER) !== 0 && !NO_SETTING.test(name);
}

/** Lines of io.max and its like come in the order of writing. */
function normalize(text: string): string {
  return text.trim().split('\n').sort().join('; ');
}

/** Every file of the group that can carry a setting. */
export function readFiles(dir: string): Settings {
  const settings = new Map<string, string>();
  for (const name of readdirSync(dir).sort()) {
    if (!isSetting(dir, name)) continue;
    try {
      settings.set(name, normalize(readFileSync(join(dir, name), 'utf8')));
    } catch (error) {
      settings.set(name, `(${isErrno(error) ? error.code : messageOf(error)})`);
    }
  }
  return settings;
}

/** Properties that limit a unit, and those that say how it is kept. */
const PROPERTY =
  /^(Default|Startup)?(Memory|CPU|IO|Tasks|Allowed|Device|ManagedOOM|BPFProgram|Delegate|OOMPolicy|NeedDaemonReload|Slice$)/;

/** Readings, not settings. */
const READING = /(Current|Peak|Available|NSec|Bytes|Operations|PressureWatch|Moderate\w*)$/;

/** All those properties of units, asked for at once: starting systemctl costs more than asking. */
export async function readUnits(units: readonly string[]): Promise<ReadonlyMap<string, Settings>> {
  if (units.length === 0) return new Map();
  const text = await mustRun(['systemctl', 'show', '--all', ...units], { timeoutMs: 120_000 });
  const blocks = text.trim().split('\n\n');
  if (blocks.length !== units.length) throw new Error(`asked for ${units.length} units, got ${blocks.length}`);
  return new Map(
    blocks.map((block) => {
      const all = parseProperties(block);
      const kept = [...all].filter(([name]) => PROPERTY.test(name) && !READING.test(name));
      return [all.get('Id') ?? '', new Map(kept.sort(([a], [b]) => (a < b ? -1 : 1)))] as const;
    }),
  );
}

/** A list has a line per element, in an order that changes. */
function parseProperties(block: string): ReadonlyMap<string, string> {
  const all = new Map<string, string>();
  for (const line of block.split('\n').sort()) {
    const [, name = '', value = ''] = /^([^=]*)=(.*)$/.exec(line) ?? [];
    const before = all.get(name);
    all.set(name, before === undefined ? value : `${before}; ${value}`);
  }
  return all;
}

const PROBE_DIR = '/dev/lamina-conformance';

function probedDevices({ major, minor }: Disk): readonly string[] {
  const character = ['1:1', '1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:2', '10:200', '10:229'];
  return [...character.map((number) => `c ${number}`), `b ${major}:${minor}`];
}

/**
 * Finds out what a process in the group may do with devices, as that cannot be read anywhere: one
 * moves in, makes each node and opens it. EPERM is the group's no; any other failure comes later
 * than its yes.
 */
export async function probeDevices(dir: string, disk: Disk): Promise<Settings> {
  rmSync(PROBE_DIR, { recursive: true, force: true });
  mkdirSync(PROBE_DIR);
  const devices = probedDevices(disk);
  for (const [index, device] of devices.entries()) {
    await mustRun(['mknod', join(PROBE_DIR, `node${index}`), ...device.split(/[ :]/)]);
  }
  const tries = devices.map((device, index) => {
    const node = `node${index}`;
    const tests = [
      `try r sh -c ': <${node}'`,
      `try w sh -c ': >>${node}'`,
      `try m mknod made${index} ${device.replace(':', ' ')}`,
    ];
    return `may=; ${tests.join('; ')}; echo "devices ${device}=$may"`;
  });
  const script = `echo $$ >"$0/cgroup.procs" || exit 1; cd ${PROBE_DIR}
    try() { letter=$1; shift; case $("$@" 2>&1) in *'not permitted'*) ;; *) may=$may$letter ;; esac; }
    ${tries.join('\n')}`;
  try {
    const { stdout } = await runCommand(['setsid', 'sh', '-c', script, dir], { timeoutMs: 120_000 });
    const lines = stdout.trim().split('\n');
    if (lines.length !== devices.length) throw new Error(`the probe of devices in ${dir} said ${stdout}`);
    return new Map(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)] as const));
  } finally {
    rmSync(PROBE_DIR, { recursive: true, force: true });
  }
}
