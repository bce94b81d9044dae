/**
 * A device policy as an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE.
 *
 * The kernel runs it at every open and mknod of a device node with a struct bpf_cgroup_dev_ctx,
 * three u32: what is asked for (1 mknod, 2 read, 4 write, in the upper half) and of which type (1
 * block, 2 char, in the lower), major, minor. It returns 1 to allow. The program asks every
 * exception in turn; the order does not matter, as all of them answer the same.
 *
 * @see include/uapi/linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst
 */
import { endianness } from 'node:os';
import type { DeviceException, DeviceNumber, DevicePolicy } from './policy.js';

/** Opcodes: class, operation and source of the operand, put together. */
const Op = {
  /** dst = *(u32 *)(src + offset) */
  LoadWord: 0x61,
  /** dst = imm, the upper half zero */
  Move32: 0xb4,
  /** dst = src, the upper half zero */
  MoveReg32: 0xbc,
  And32: 0x54,
  ShiftRight32: 0x74,
  JumpIfEqual: 0x15,
  JumpUnlessEqual: 0x55,
  JumpUnlessEqualReg: 0x5d,
  Exit: 0x95,
} as const;

/** R1 holds the context at first and is free once the fields are in the others. */
const Reg = { Result: 0, Scratch: 1, Type: 2, Access: 3, Major: 4, Minor: 5 } as const;
const Offset = { Access: 0, Major: 4, Minor: 8 } as const;

const TYPE_NUMBERS = { b: 1, c: 2 } as const;
const ACCESS_BITS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };
const ALL_ACCESS = 7;
const INSTRUCTION_BYTES = 8;

interface Instruction {
  readonly code: number;
  readonly dst?: number;
  readonly src?: number;
  /** Of a jump: instructions to skip. */
  readonly offset?: number;
  readonly imm?: number;
}

const PROLOGUE: readonly Instruction[] = [
  { code: Op.LoadWord, dst: Reg.Type, src: Reg.Scratch, offset: Offset.Access },
  { code: Op.MoveReg32, dst: Reg.Access, src: Reg.Type },
  { code: Op.And32, dst: Reg.Type, imm: 0xffff },
  { code: Op.ShiftRight32, dst: Reg.Access, imm: 16 },
  { code: Op.LoadWord, dst: Reg.Major, src: Reg.Scratch, offset: Offset.Major },
  { code: Op.LoadWord, dst: Reg.Minor, src: Reg.Scratch, offset: Offset.Minor },
];

function returns(allow: boolean): Instruction[] {
  return [{ code: Op.Move32, dst: Reg.Result, imm: allow ? 1 : 0 }, { code: Op.Exit }];
}

/** A jump to the end of the block unless the register holds the number. */
function unlessNumber(reg: number, number: DeviceNumber): Instruction[] {
  if (number === '*') return [];
  // Compared with 64 bits, to which a constant is extended by its sign.
  if (number <= 0x7fff_ffff) return [{ code: Op.JumpUnlessEqual, dst: reg, imm: number }];
  return [
    { code: Op.Move32, dst: Reg.Scratch, imm: number },
    { code: Op.JumpUnlessEqualReg, dst: reg, src: Reg.Scratch },
  ];
}

/**
 * A jump to the end of the block unless the exception has what is asked for: all of it to be
 * allowed, any of it to be denied.
 */
function unlessAccess(access: string, allow: boolean): Instruction[] {
  const bits = [...access].reduce((sum, letter) => sum | (ACCESS_BITS[letter] ?? 0), 0);
  const tested = allow ? ALL_ACCESS & ~bits : bits;
  if (tested === 0) return [];
  return [
    { code: Op.MoveReg32, dst: Reg.Scratch, src: Reg.Access },
    { code: Op.And32, dst: Reg.Scratch, imm: tested },
    { code: allow ? Op.JumpUnlessEqual : Op.JumpIfEqual, dst: Reg.Scratch, imm: 0 },
  ];
}

function isJump(code: number): boolean {
  return code === Op.JumpIfEqual || code === Op.JumpUnlessEqual || code === Op.JumpUnlessEqualReg;
}

function exceptionBlock(exception: DeviceException, allow: boolean): Instruction[] {
  const block = [
    { code: Op.JumpUnlessEqual, dst: Reg.Type, imm: TYPE_NUMBERS[exception.type] },
    // Before the numbers: what leaves the block once a number is known is a case of its own to the
    // verifier, through all blocks after it.
    ...unlessAccess(exception.access, allow),
    ...unlessNumber(Reg.Major, exception.major),
    ...unlessNumber(Reg.Minor, exception.minor),
    ...returns(allow),
  ];
  return block.map((each, index) => (isJump(each.code) ? { ...each, offset: block.length - index - 1 } : each));
}

/** struct bpf_insn, whose two registers are bit fields of one byte. */
function encode(instructions: readonly Instruction[], order: 'LE' | 'BE'): Uint8Array {
  const bytes = new Uint8Array(instructions.length * INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  const little = order === 'LE';
  for (const [index, { code, dst = 0, src = 0, offset = 0, imm = 0 }] of instructions.entries()) {
    const at = index * INSTRUCTION_BYTES;
    view.setUint8(at, code);
    view.setUint8(at + 1, little ? (src << 4) | dst : (dst << 4) | src);
    view.setInt16(at + 2, offset, little);
    view.setInt32(at + 4, imm, little);
  }
  return bytes;
}

/**
 * Compiles a policy into an array of struct bpf_insn. Kernels before 5.2 take 4096 instructions,
 * which is some 500 exceptions.
 * @param order the byte order of the machine it is for
 */
export function compileDeviceProgram({ allowByDefault, exceptions }: DevicePolicy, order = endianness()): Uint8Array {
  const blocks = exceptions.flatMap((exception) => exceptionBlock(exception, !allowByDefault));
  return encode([...PROLOGUE, ...blocks, ...returns(allowByDefault)], order);
}
