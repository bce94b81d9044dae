import * as fs from 'node:fs';
import { isErrno } from '../../../src/base/index.js';
import { sendSignal } from '../../lib/proc.js';
import { until } from '../../lib/wait.js';
import { type Shell, startShell } from './shell.js';

/** The cgroup directories of one container, one per hierarchy, made and removed here. */
export class TestGroup {
  readonly dirs: readonly string[];
  readonly #shells: Shell[] = [];

  constructor(dirs: readonly string[]) {
    this.dirs = dirs;
    for (const dir of dirs) fs.mkdirSync(dir);
  }

  /** Writes a file of the group, in the hierarchy that has it. */
  write(file: string, value: string): void {
    const dir = this.dirs.find((each) => fs.existsSync(`${each}/${file}`));
    fs.writeFileSync(`${dir}/${file}`, value);
  }

  /** Runs a shell script, moved into the group before its first command. */
  async run(script: string): Promise<Shell> {
    const shell = await startShell(script, { stderr: 'ignore' });
    this.#shells.push(shell);
    for (const dir of this.dirs) fs.writeFileSync(`${dir}/cgroup.procs`, String(shell.pid));
    shell.go();
    return shell;
  }

  /** Ends what still runs and removes the directories, with what is below them. */
  async remove(): Promise<void> {
    for (const dir of this.dirs) await removeTree(dir);
    for (const shell of this.#shells.splice(0)) await shell[Symbol.asyncDispose]();
  }
}

async function removeTree(dir: string): Promise<void> {
  if (!fs.existsSync(dir)) return;
  for (const [file, value] of [
    ['freezer.state', 'THAWED'],
    ['cgroup.freeze', '0'],
  ] as const) {
    if (fs.existsSync(`${dir}/${file}`)) fs.writeFileSync(`${dir}/${file}`, value);
  }
  for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeTree(`${dir}/${entry.name}`);
  }
  await until(`${dir} to be removed`, () => {
    killMembers(dir);
    return tryRmdir(dir);
  });
}

function killMembers(dir: string): void {
  // A threaded group does not tell its processes.
  const isThreaded =
    fs.existsSync(`${dir}/cgroup.type`) && fs.readFileSync(`${dir}/cgroup.type`, 'utf8') === 'threaded\n';
  const file = isThreaded ? 'cgroup.threads' : 'cgroup.procs';
  for (const pid of fs.readFileSync(`${dir}/${file}`, 'utf8').split('\n').filter(Boolean)) {
    sendSignal(Number(pid), 'SIGKILL');
  }
}

function tryRmdir(dir: string): boolean {
  try {
    fs.rmdirSync(dir);
    return true;
  } catch (error) {
    if (isErrno(error, 'EBUSY')) return false;
    throw error;
  }
}
