/**
 * The addon's bpf functions on programs in memory: an older kernel, a refusing one, and what no
 * program must ever see.
 */
import { fstatSync, openSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { binding } from '../../../../src/sys/index.js';

const MULTI = 2;
const REPLACE = 4;

export interface FakeOptions {
  /** Linux 5.6; true unless said otherwise. */
  readonly replace?: boolean;
  /** What is attached at first, by id. */
  readonly attached?: readonly number[];
  readonly flags?: number;
  /** Called before every call, counted from 1; what it returns is thrown, as an errno. */
  readonly refuse?: (call: string, count: number, unlimitedMemlock: boolean) => string | undefined;
}

function errno(code: string, syscall: string): Error {
  return Object.assign(new Error(`${code}: refused, ${syscall}`), { code, errno: -1, syscall });
}

export class FakePrograms {
  /** Ids, as attached. */
  attached: number[];
  flags: number;
  readonly calls: string[] = [];
  /** What was attached after each call. */
  readonly history: number[][] = [];
  readonly #idOf = new Map<number, number>();
  readonly #options: FakeOptions;
  #lastId = 100;

  constructor(context: TestContext, options: FakeOptions = {}) {
    this.#options = options;
    this.attached = [...(options.attached ?? [])];
    this.flags = options.flags ?? MULTI;
    const functions = {
      bpfLoadDevice: (_program: Uint8Array, unlimited: boolean) => {
        this.#called('load', unlimited);
        this.#lastId += 1;
        return this.#descriptor(this.#lastId);
      },
      bpfQueryDevice: () => {
        this.#called('query');
        return { flags: this.attached.length === 0 ? 0 : this.flags, ids: [...this.attached] };
      },
      bpfOpenProgram: (id: number) => {
        this.#called('open');
        return this.#descriptor(id);
      },
      bpfAttachDevice: (_group: number, program: number, flags: number, replaced: number) => {
        this.#called('attach');
        this.#attach(this.#id(program), flags, replaced);
        this.history.push([...this.attached]);
      },
      bpfDetachDevice: (_group: number, program: number) => {
        this.#called('detach');
        const at = this.attached.indexOf(this.#id(program));
        if (at < 0) throw errno('ENOENT', 'bpf');
        this.attached.splice(at, 1);
        this.history.push([...this.attached]);
      },
    };
    const real = binding();
    context.mock.method(real, 'bpfLoadDevice', functions.bpfLoadDevice);
    context.mock.method(real, 'bpfQueryDevice', functions.bpfQueryDevice);
    context.mock.method(real, 'bpfOpenProgram', functions.bpfOpenProgram);
    context.mock.method(real, 'bpfAttachDevice', functions.bpfAttachDevice);
    context.mock.method(real, 'bpfDetachDevice', functions.bpfDetachDevice);
  }

  #called(name: string, unlimited = false): void {
    this.calls.push(name);
    const code = this.#options.refuse?.(name, this.calls.length, unlimited);
    if (code !== undefined) throw errno(code, 'bpf');
  }

  #descriptor(id: number): number {
    const fd = openSync('/dev/null', 'r');
    this.#idOf.set(fd, id);
    return fd;
  }

  /** The program behind a descriptor, which must be open. */
  #id(fd: number): number {
    fstatSync(fd);
    const id = this.#idOf.get(fd);
    if (id === undefined) throw errno('EINVAL', 'bpf');
    return id;
  }

  #attach(id: number, flags: number, replaced: number): void {
    if ((flags & REPLACE) !== 0 && this.#options.replace === false) throw errno('EINVAL', 'bpf');
    if (this.attached.length > 0 && (flags & 3) !== this.flags) throw errno('EPERM', 'bpf');
    if (this.attached.includes(id)) throw errno('EINVAL', 'bpf');
    if ((flags & REPLACE) !== 0) {
      const at = this.attached.indexOf(this.#id(replaced));
      if (at < 0) throw errno('ENOENT', 'bpf');
      this.attached[at] = id;
      return;
    }
    if ((flags & MULTI) === 0) this.attached = [];
    this.attached.push(id);
    this.flags = flags & 3;
  }

  /** Descriptors given out and still open. */
  open(): number[] {
    return [...this.#idOf.keys()].filter((fd) => {
      try {
        fstatSync(fd);
        return true;
      } catch {
        return false;
      }
    });
  }
}
