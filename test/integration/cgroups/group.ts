import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { isErrno } from '../../../src/base/index.js';
import { LATE_MS, until, within } from '../../lib/wait.js';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A shell in a group. */
export interface GroupProcess {
  readonly pid: number;
  readonly exit: Promise<Exit>;
  /** Resolves when it has printed the word. */
  printed(word: string): Promise<void>;
}

/** The cgroup directories of one container, one per hierarchy, made and removed here. */
export class TestGroup {
  readonly dirs: readonly string[];
  readonly #children: ChildProcess[] = [];

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
  async run(script: string): Promise<GroupProcess> {
    const child = spawn('sh', ['-c', `read start; ${script}`], { stdio: ['pipe', 'pipe', 'ignore'] });
    this.#children.push(child);
    const exit = new Promise<Exit>((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('latin1');
    });
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    for (const dir of this.dirs) fs.writeFileSync(`${dir}/cgroup.procs`, String(child.pid));
    child.stdin.write('go\n');
    return {
      pid: child.pid as number,
      get exit() {
        const ended = within(`exit of ${script}`, LATE_MS, exit);
        // who is not interested need not wait for it
        ended.catch(() => undefined);
        return ended;
      },
      printed: async (word) => void (await until(`"${word}" from ${script}`, () => output.includes(word))),
    };
  }

  /** Ends what still runs and removes the directories, with what is below them. */
  async remove(): Promise<void> {
    for (const dir of this.dirs) await removeTree(dir);
    for (const child of this.#children.splice(0)) {
      child.stdin?.destroy();
      child.stdout?.destroy();
    }
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
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error;
    }
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
