/**
 * How the runc driver starts programs. The engine implements it over the keeper (which then is
 * their parent); `nodeSpawner` implements it over child_process for the library on its own.
 */

/** How a process ended: an exit code, or the number of the signal that killed it. */
export interface ExitStatus {
  /** 0 to 255; for a signal 128 + its number, as shells and containerd count. */
  readonly code: number;
  readonly signal: number | undefined;
  /** When it was reaped: nanoseconds since the epoch. */
  readonly timeNs: bigint;
}

export interface SpawnRequest {
  /** What the process is to whoever reads logs: "runc create web". */
  readonly name: string;
  /** Program (path, or a name looked up in PATH) and its arguments. */
  readonly argv: readonly string[];
  /** Edits of the environment: a string sets, undefined removes. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Start from an empty environment instead of the spawner's own. */
  readonly clearEnv?: boolean;
  readonly cwd?: string;
  /**
   * Descriptors for the child: [ours, number in the child]. 0, 1 and 2 are /dev/null unless given.
   * The caller keeps ownership of its descriptors and may close them once spawn() has settled.
   */
  readonly fds?: readonly (readonly [fd: number, childFd: number])[];
  /** SIGKILL the child when the spawner's own process dies. */
  readonly dieWithParent?: boolean;
}

export interface SpawnedProcess {
  readonly pid: number;
  /** Resolves once the process was reaped; never rejects. */
  readonly exited: Promise<ExitStatus>;
  /** Sends a signal; does nothing once the process has ended. */
  kill(signal: number): void;
  /**
   * The same for its whole process group, where it leads one (wrapper scripts leave children behind
   * otherwise).
   */
  killGroup?(signal: number): void;
}

export interface Spawner {
  /**
   * @throws LaminaError (NotFound, PermissionDenied, ...) naming the program when it cannot be
   *   executed
   */
  spawn(request: SpawnRequest): Promise<SpawnedProcess>;
  /**
   * Kills a process that a program has left behind, if it is one that a program of this spawner can
   * have left; where this is absent the pid alone has to do.
   */
  killStray?(pid: number): Promise<void>;
}
