/** Builds the runtime's command lines. Pure: options in, arguments out. */

export interface GlobalOptions {
  readonly binary: string;
  readonly root?: string | undefined;
  readonly log?: string | undefined;
  readonly systemdCgroup?: boolean | undefined;
  readonly debug?: boolean | undefined;
}

/** `runc --root R --log L --log-format json [--systemd-cgroup] [--debug]` */
export function globalArgs(options: GlobalOptions): string[] {
  const args = [options.binary];
  if (options.root) args.push('--root', options.root);
  if (options.debug) args.push('--debug');
  if (options.log) args.push('--log', options.log, '--log-format', 'json');
  if (options.systemdCgroup) args.push('--systemd-cgroup');
  return args;
}

export interface CreateArgs {
  readonly bundle: string;
  readonly pidFile: string;
  readonly consoleSocket?: string | undefined;
  /** Where to send a pidfd of init: runc 1.2 and later. */
  readonly pidfdSocket?: string | undefined;
  readonly noPivot?: boolean | undefined;
  readonly noNewKeyring?: boolean | undefined;
  readonly preserveFds?: number | undefined;
}

export function createArgs(id: string, options: CreateArgs): string[] {
  const args = ['create', '--bundle', options.bundle, '--pid-file', options.pidFile];
  if (options.consoleSocket) args.push('--console-socket', options.consoleSocket);
  if (options.pidfdSocket) args.push('--pidfd-socket', options.pidfdSocket);
  if (options.noPivot) args.push('--no-pivot');
  if (options.noNewKeyring) args.push('--no-new-keyring');
  if (options.preserveFds) args.push('--preserve-fds', String(options.preserveFds));
  args.push(id);
  return args;
}

export interface ExecArgs {
  /** Path of a process.json. */
  readonly processFile: string;
  readonly pidFile: string;
  readonly consoleSocket?: string | undefined;
  readonly pidfdSocket?: string | undefined;
  readonly preserveFds?: number | undefined;
}

export function execArgs(id: string, options: ExecArgs): string[] {
  const args = ['exec', '--process', options.processFile];
  if (options.consoleSocket) args.push('--console-socket', options.consoleSocket);
  if (options.pidfdSocket) args.push('--pidfd-socket', options.pidfdSocket);
  args.push('--detach', '--pid-file', options.pidFile);
  if (options.preserveFds) args.push('--preserve-fds', String(options.preserveFds));
  args.push(id);
  return args;
}

export interface CheckpointArgs {
  readonly imagePath: string;
  readonly workPath?: string | undefined;
  readonly parentPath?: string | undefined;
  readonly tcpEstablished?: boolean | undefined;
  readonly extUnixSockets?: boolean | undefined;
  readonly shellJob?: boolean | undefined;
  readonly fileLocks?: boolean | undefined;
  /** `soft`, `full`, `strict`, `ignore`. */
  readonly manageCgroupsMode?: string | undefined;
  /** Namespaces to make but not restore: `network`. */
  readonly emptyNamespaces?: readonly string[] | undefined;
  /** Keep the container running; true unless it is to exit. */
  readonly leaveRunning?: boolean | undefined;
}

export function checkpointArgs(id: string, options: CheckpointArgs): string[] {
  const args = ['checkpoint', '--image-path', options.imagePath];
  if (options.workPath) args.push('--work-path', options.workPath);
  if (options.parentPath) args.push('--parent-path', options.parentPath);
  pushCriuFlags(args, options);
  if (options.leaveRunning) args.push('--leave-running');
  args.push(id);
  return args;
}

function pushCriuFlags(args: string[], options: Omit<CheckpointArgs, 'imagePath'>): void {
  if (options.tcpEstablished) args.push('--tcp-established');
  if (options.extUnixSockets) args.push('--ext-unix-sk');
  if (options.shellJob) args.push('--shell-job');
  if (options.fileLocks) args.push('--file-locks');
  if (options.manageCgroupsMode) args.push('--manage-cgroups-mode', options.manageCgroupsMode);
  for (const namespace of options.emptyNamespaces ?? []) args.push('--empty-ns', namespace);
}

export interface RestoreArgs extends Omit<CheckpointArgs, 'leaveRunning'> {
  readonly bundle: string;
  readonly pidFile: string;
  readonly consoleSocket?: string | undefined;
  readonly noPivot?: boolean | undefined;
  /** Leave re-parented processes to our caller; not known to crun. */
  readonly noSubreaper?: boolean | undefined;
}

export function restoreArgs(id: string, options: RestoreArgs): string[] {
  const args = ['restore', '--image-path', options.imagePath];
  if (options.workPath) args.push('--work-path', options.workPath);
  if (options.parentPath) args.push('--parent-path', options.parentPath);
  pushCriuFlags(args, options);
  args.push('--detach', '--pid-file', options.pidFile);
  if (options.consoleSocket) args.push('--console-socket', options.consoleSocket);
  if (options.noPivot) args.push('--no-pivot');
  if (options.noSubreaper) args.push('--no-subreaper');
  args.push('--bundle', options.bundle, id);
  return args;
}
