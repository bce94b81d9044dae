/** Starts a process through the OCI runtime and takes it over: streams, terminal, pid, exit. */
import { Code, codeOf, LaminaError, messageOf } from '../../base/index.js';
import { ConsoleSocket, type Stdio } from '../../oci/index.js';
import { SIGKILL } from '../../sys/index.js';
import type { ContainerContext } from '../context.js';
import type { ExitHandler } from '../exits.js';
import { connectTerminal, type OpenIoOptions, openIo } from '../io/open.js';
import type { ProcessIo } from '../io/process-io.js';
import type { StdioRequest } from '../io/stdio.js';
import type { HeldProcess } from '../keeper-children.js';
import type { TrackedProcess } from './tracked.js';

/**
 * Runs the runtime's create, exec or restore with these streams; resolves with the pid of the new
 * process.
 */
export type RunRuntime = (io: { readonly stdio: Stdio; readonly consoleSocket: string | undefined }) => Promise<number>;

export interface LaunchOptions {
  readonly process: TrackedProcess;
  /** What the keeper calls the process in its exit report. */
  readonly name: string;
  readonly io: OpenIoOptions;
  readonly run: RunRuntime;
  readonly onReaped: ExitHandler;
}

/**
 * On failure the process is gone and its streams are closed. After success the caller records it
 * and then calls `startRecorded`.
 */
export async function launch(context: ContainerContext, options: LaunchOptions): Promise<void> {
  using _starting = context.exits.begin();
  const { process, name, run, onReaped } = options;
  const { stdio } = process;
  // What a predecessor engine had opened for a start that it did not come to.
  const carried = process.io?.carryOn();
  process.io = undefined;
  const io = await openStreams(stdio, options.io, carried);
  process.io = io;
  using console = stdio.terminal
    ? new ConsoleSocket({
        path: context.consolePath(name),
        onConnected: (fd) => io.keepNow('console-connection', fd, Buffer.from(console?.path ?? '')),
      })
    : undefined;
  if (console?.fd !== undefined) io.keep('console-socket', console.fd, Buffer.from(console.path));
  // Into the keeper at once: whoever has it last hangs up the process when it goes.
  const master = console
    // As long as the runtime runs, which has its limit.
    ?.receive(0)
    .then(({ fd }) => {
      io.setConsole(fd);
      return fd;
    })
    // A runtime may wait for its connection to be closed.
    .finally(() => io.consoleReceived());
  // Awaited below; until then it must not count as unhandled.
  master?.catch(() => undefined);
  try {
    const early = io.startRelays(false);
    early.catch(() => undefined);
    const [stdin, stdout, stderr] = io.childFds;
    const pid = await run({ stdio: [stdin, stdout, stderr], consoleSocket: console?.path });
    io.releaseChildEnds();
    // Known before: its exit may be told at once.
    const holdAgain = (): Promise<HeldProcess> => context.link.children.adopt(pid, name);
    process.hold(pid, undefined, holdAgain);
    const adopted = context.exits.adopt(pid, name, onReaped).catch((error: unknown) => {
      // Whoever that is, it is not to be killed.
      if (codeOf(error) === Code.DataLoss) process.hold(0, undefined);
      throw error;
    });
    // Asked for together: one message to the keeper, one answer.
    const late = io.startRelays(true);
    late.catch(() => undefined);
    const held = await adopted;
    process.hold(pid, held?.pidfd, holdAgain);
    if (master !== undefined) {
      console?.takeNow();
      // Somebody has connected and sent nothing yet.
      const limit = setTimeout(() => console?.[Symbol.dispose](), context.config.timeouts.runtimeMs);
      void master.catch(() => undefined).finally(() => clearTimeout(limit));
      const terminal = await master.catch((error: unknown) => {
        const why = `the runtime reported success, but ${messageOf(error)}`;
        const code = codeOf(error) === Code.ResourceExhausted ? Code.ResourceExhausted : Code.DataLoss;
        throw new LaminaError(code, why, { subject: name, cause: error });
      });
      await connectTerminal(io, terminal, stdio, options.io);
    }
    await Promise.all([early, late, io.startRelays(true)]);
    io.assertKept();
  } catch (error) {
    process.io = undefined;
    io.dispose();
    // runc sends the terminal before it finds that the program is missing.
    master?.then(
      () => io.dispose(),
      () => undefined,
    );
    killIfStarted(context, process);
    throw error;
  }
}

/** The runtime may have succeeded and what came after it failed: nobody would own the process. */
function killIfStarted({ log }: ContainerContext, process: TrackedProcess): void {
  const { pid } = process;
  if (pid === 0) return;
  process.signal(SIGKILL).catch((error: unknown) => {
    if (codeOf(error) !== Code.NotFound) log.error({ pid, error: messageOf(error) }, 'kill what was started');
  });
}

async function openStreams(
  stdio: StdioRequest,
  options: OpenIoOptions,
  carried: ProcessIo | undefined,
): Promise<ProcessIo> {
  try {
    return await openIo(stdio, options, carried);
  } catch (error) {
    throw new LaminaError(codeOf(error), `failed to create init process I/O: ${messageOf(error)}`, { cause: error });
  }
}
