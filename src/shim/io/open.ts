/**
 * Opens the streams of a process before it is started, and connects its terminal after.
 *
 * INVARIANT: what a process gets is the writing end of a FIFO, an end of a pipe that was made for
 * it, or a terminal; never a file, device or socket of the host, which it could change, and which
 * the runtime gives to its user (`ProcessIo.setChildFd` refuses anything else).
 */
import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { isatty } from 'node:tty';
import { Code, codeOf, LaminaError, makeFolders, messageOf } from '../../base/index.js';
import { binding } from '../../sys/index.js';
import type { KeeperLink } from '../keeper-link.js';
import { type LoggerOptions, loggerName, startLogger } from './logger.js';
import { ProcessIo } from './process-io.js';
import { planStdio, type StdioRequest } from './stdio.js';

/** Never wait for the other end of a FIFO, never take a terminal for the engine's own. */
const QUIETLY = constants.O_NONBLOCK | constants.O_NOCTTY;
/**
 * Only the place in the file system: nobody at the other end of a FIFO notices. Node has no name
 * for it.
 */
const O_PATH = 0o10000000;
const TO_READ = 'containerd-shim: opening r/o fifo';
const TO_WRITE = 'containerd-shim: opening w/o fifo';

export interface OpenIoOptions {
  readonly link: KeeperLink;
  readonly prefix: string;
  readonly containerId: string;
  readonly namespace: string;
  /**
   * Whether output goes through a pipe that the keeper copies from, instead of the FIFO being the
   * process's own stdout. Needed where the FIFO must be closed before all holders of the stream
   * have ended (execs), or where the process may not use the FIFO (SELinux), or may not open it
   * anew, as /dev/stdout: it is the daemon's, and not the user's of `uid` (user namespaces).
   */
  readonly copy: boolean;
  /** Owner of the pipes. */
  readonly uid: number;
  readonly gid: number;
  readonly loggerTimeoutMs: number;
}

/**
 * Opens everything `request` names, short of a terminal (see `connectTerminal`).
 * @param carried what an earlier try of the same start had
 * @throws LaminaError naming the stream; nothing stays open then
 */
export async function openIo(request: StdioRequest, options: OpenIoOptions, carried?: ProcessIo): Promise<ProcessIo> {
  const io = carried ?? new ProcessIo(options.link, options.prefix);
  try {
    const plan = planStdio(request);
    switch (plan.kind) {
      case 'null':
        break;
      case 'file':
        if (!request.terminal) openLogFile(io, plan.path, options);
        break;
      case 'logger':
        if (!request.terminal) await openLogger(io, plan, options);
        break;
      case 'fifo':
        if (request.terminal) break;
        await Promise.all([
          secure(io, 'stdin-reader', TO_READ, plan.stdin),
          secure(io, 'stdout-writer', TO_WRITE, plan.stdout),
          secure(io, 'err-dst', TO_WRITE, plan.stderr),
        ]);
        if (plan.stdin !== '') openInput(io, plan.stdin, options);
        if (plan.stdout !== '') openOutput(io, 1, plan.stdout, options);
        if (plan.stderr !== '') openOutput(io, 2, plan.stderr, options);
        break;
    }
  } catch (error) {
    io.dispose();
    throw error;
  }
  return io;
}

/**
 * Connects a terminal's master, which `io` then owns, with the streams of the request, as far as
 * they are not.
 */
export async function connectTerminal(
  io: ProcessIo,
  master: number,
  request: StdioRequest,
  options: OpenIoOptions,
): Promise<void> {
  if (io.console !== master) io.setConsole(master);
  if (!isatty(master)) {
    throw new LaminaError(Code.DataLoss, 'the runtime has sent something else than a terminal', {
      subject: options.containerId,
    });
  }
  const plan = planStdio(request);
  if (plan.kind === 'logger') {
    if (io.hasRelay('out')) return;
    const [read, write] = binding().pipe();
    io.relayConsole('out', write);
    try {
      io.setLogger(await startLogger(plan, [read], loggerOptions(options)));
    } finally {
      closeSync(read);
    }
    return;
  }
  const stdout = plan.kind === 'fifo' ? plan.stdout : request.stdout;
  await Promise.all([
    secure(io, 'stdin-reader', TO_READ, fifoOnly(request.stdin)),
    secure(io, 'stdout-writer', TO_WRITE, stdout),
  ]);
  if (stdout !== '' && !io.hasRelay('out')) {
    const { fd } = openWriter(io, 'stdout-hold', stdout);
    io.relayConsole('out', fd);
  }
  if (request.stdin !== '' && !io.hasRelay('in')) {
    io.relayConsole('in', openReader(io, fifoOnly(request.stdin)));
  }
}

function fifoOnly(path: string): string {
  return path.startsWith('fifo://') ? path.slice('fifo://'.length) : path;
}

/**
 * The keeper opens both ends of a FIFO before this engine opens one, and has them until the start
 * is recorded: were the engine to die in between, the client at the other end would see the end of
 * the output, or nobody to take its input.
 */
async function secure(
  io: ProcessIo,
  stream: 'stdin-reader' | 'stdout-writer' | 'err-dst',
  what: string,
  path: string,
): Promise<void> {
  if (path === '') return;
  let secured: Promise<void> | undefined;
  naming(`${what} "${path}" failed`, () => {
    const place = openSync(path, O_PATH);
    try {
      if (fstatSync(place).isFIFO()) secured = io.keepFifo(stream, place);
    } finally {
      closeSync(place);
    }
  });
  await secured;
}

/**
 * stdin: FIFO → pipe, copied by the keeper, so that the process never sees the FIFO's owner or
 * flags.
 */
function openInput(io: ProcessIo, path: string, options: OpenIoOptions): void {
  const begun = io.takeStdinPipe();
  if (begun !== undefined) {
    io.setChildFd(0, begun);
    return;
  }
  const [read, write] = ownedPipe(options);
  io.setChildFd(0, read);
  io.keep('stdin-pipe', read);
  io.relay(
    'in',
    closing(write, () => openReader(io, path)),
    write,
  );
}

function openOutput(io: ProcessIo, index: 1 | 2, path: string, options: OpenIoOptions): void {
  const { fd, isFifo } = openWriter(io, index === 1 ? 'stdout-hold' : 'stderr-hold', path);
  // stderr is also where the runtime says why a start failed, which nobody is to read as the
  // process's words: see startRelays.
  if (!options.copy && index === 1 && isFifo) {
    io.setChildFd(index, fd);
    // A blocking description of its own: the process must never see EAGAIN.
    binding().setNonBlocking(fd, false);
    return;
  }
  const [read, write] = closing(fd, () => ownedPipe(options));
  io.setChildFd(index, write);
  io.relay(index === 1 ? 'out' : 'err', read, fd);
}

/** Where output goes. */
interface Sink {
  readonly fd: number;
  readonly isFifo: boolean;
}

/**
 * The write end of an output FIFO, or something else, to be appended to. A read end of a FIFO goes
 * to the keeper for as long as the process lives.
 */
function openWriter(io: ProcessIo, hold: 'stdout-hold' | 'stderr-hold', path: string): Sink {
  return naming(`${TO_WRITE} "${path}" failed`, () => {
    // Everything is opened from here: whatever the path means by then, it is what was looked at.
    const place = openSync(path, O_PATH);
    const again = `/proc/self/fd/${place}`;
    try {
      if (!fstatSync(place).isFIFO()) {
        return { fd: openSync(again, constants.O_WRONLY | constants.O_APPEND | QUIETLY), isFifo: false };
      }
      const reader = openSync(again, constants.O_RDONLY | QUIETLY);
      io.keep(hold, reader);
      try {
        return { fd: openSync(again, constants.O_WRONLY | QUIETLY), isFifo: true };
      } finally {
        // Not before: the keeper may have refused it.
        closeSync(reader);
      }
    } finally {
      closeSync(place);
    }
  });
}

/**
 * The read end of an input FIFO, with a write end in the keeper so that clients may come and go.
 */
function openReader(io: ProcessIo, path: string): number {
  return naming(`${TO_READ} "${path}" failed`, () => {
    const reader = openSync(path, constants.O_RDONLY | QUIETLY);
    if (!fstatSync(reader).isFIFO()) return reader;
    io.hold(
      'stdin-hold',
      closing(reader, () => openSync(path, constants.O_WRONLY | QUIETLY)),
    );
    return reader;
  });
}

/**
 * `file://`: both streams are appended to one file by the keeper, from one pipe, so that they stay
 * in the order in which they were written. As stderr: what the runtime says of a failed start is
 * not the process's.
 */
function openLogFile(io: ProcessIo, path: string, options: OpenIoOptions): void {
  naming(`containerd-shim: opening log file "${path}" failed`, () => {
    makeFolders(dirname(path), 0o755);
    const file = openSync(path, constants.O_CREAT | constants.O_WRONLY | constants.O_APPEND | QUIETLY, 0o644);
    const [read, write] = closing(file, () => ownedPipe(options));
    io.setChildFd(1, write);
    io.setChildFd(2, write);
    io.relay('err', read, file);
  });
}

/** `binary://`: the process writes straight into the logger's pipes. */
async function openLogger(
  io: ProcessIo,
  plan: { readonly program: string; readonly args: readonly string[]; readonly strict: boolean },
  options: OpenIoOptions,
): Promise<void> {
  const [outRead, outWrite] = ownedPipe(options);
  io.setChildFd(1, outWrite);
  const [errRead, errWrite] = closing(outRead, () => ownedPipe(options));
  io.setChildFd(2, errWrite);
  try {
    io.setLogger(await startLogger(plan, [outRead, errRead], loggerOptions(options)));
  } finally {
    closeSync(outRead);
    closeSync(errRead);
  }
}

function loggerOptions(options: OpenIoOptions): LoggerOptions {
  return { ...options, spawner: options.link.children, name: loggerName(options.prefix) };
}

function ownedPipe(options: OpenIoOptions): [read: number, write: number] {
  const [read, write] = binding().pipe();
  if (options.uid === 0 && options.gid === 0) return [read, write];
  closing(read, () =>
    closing(write, () => {
      fchownSync(read, options.uid, options.gid);
      fchownSync(write, options.uid, options.gid);
    }),
  );
  return [read, write];
}

/** Runs a step; if it fails, a descriptor that would have no owner then is closed. */
function closing<T>(fd: number, step: () => T): T {
  try {
    return step();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function naming<T>(what: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    // A FIFO that is not there is no container that is not there.
    const code = codeOf(error) === Code.ResourceExhausted ? Code.ResourceExhausted : Code.Unknown;
    throw new LaminaError(code, `${what}: ${messageOf(error)}`, { cause: error });
  }
}
