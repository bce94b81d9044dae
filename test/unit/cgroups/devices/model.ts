/**
 * The device cgroup of v1 as the kernel has it (security/device_cgroup.c), and an interpreter for
 * the instructions of device programs: what the emulator and the compiler are held against. Both
 * are stricter than they need be, and know nothing of src/cgroups/devices.
 */
import fc from 'fast-check';
import type { DeviceRule } from '../../../../src/oci/index.js';

/** What a process wants of a device. */
export interface Access {
  readonly type: 'b' | 'c';
  readonly major: number;
  readonly minor: number;
  /** 1 mknod, 2 read, 4 write; 0 is possible: access(2) with X_OK. */
  readonly bits: number;
}

interface Exception {
  readonly type: string;
  readonly major: number;
  readonly minor: number;
  bits: number;
}

const ANY = -1;

export function bitsOf(access: string | undefined): number {
  return [...(access ?? '')].reduce((sum, letter) => sum | { m: 1, r: 2, w: 4 }[letter as 'm' | 'r' | 'w'], 0);
}

/** A new group: denies by default. */
export class V1Devices {
  #allow = false;
  #exceptions: Exception[] = [];

  /** devices.allow or devices.deny. */
  write({ allow, type = 'a', major = ANY, minor = ANY, access }: DeviceRule): void {
    const bits = bitsOf(access);
    if (type === 'a') {
      this.#allow = allow;
      this.#exceptions = [];
      return;
    }
    const present = this.#exceptions.find((each) => each.type === type && each.major === major && each.minor === minor);
    if (allow !== this.#allow) {
      if (present === undefined) this.#exceptions.push({ type, major, minor, bits });
      else present.bits |= bits;
    } else if (present !== undefined) {
      present.bits &= ~bits;
      if (present.bits === 0) this.#exceptions = this.#exceptions.filter((each) => each !== present);
    }
  }

  allows(access: Access): boolean {
    const matching = this.#exceptions.filter(
      ({ type, major, minor }) =>
        type === access.type && (major === ANY || major === access.major) && (minor === ANY || minor === access.minor),
    );
    return this.#allow
      ? !matching.some(({ bits }) => (access.bits & bits) !== 0)
      : matching.some(({ bits }) => (access.bits & ~bits) === 0);
  }
}

const UNSET = undefined;
type Registers = (bigint | 'context' | typeof UNSET)[];

function numberIn(registers: Registers, index: number): bigint {
  const value = registers[index];
  if (typeof value !== 'bigint') throw new Error(`r${index} holds no number`);
  return value;
}

/**
 * Runs a program; throws where the kernel's verifier would refuse it, and for what our programs do
 * not use.
 */
export function runProgram(program: Uint8Array, access: Access, order: 'LE' | 'BE' = 'LE'): bigint {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const little = order === 'LE';
  const context = [((access.bits << 16) | { b: 1, c: 2 }[access.type]) >>> 0, access.major, access.minor];
  const registers: Registers = [UNSET, 'context'];
  for (let at = 0; at < program.length; at += 8) {
    const code = view.getUint8(at);
    const pair = view.getUint8(at + 1);
    const [dst, src] = little ? [pair & 15, pair >> 4] : [pair >> 4, pair & 15];
    const offset = view.getInt16(at + 2, little);
    const imm = view.getInt32(at + 4, little);
    if (offset < 0 || (code !== 0x61 && at + 8 * (offset + 1) >= program.length && code !== 0x95)) {
      throw new Error('jump out of the program');
    }
    switch (code) {
      case 0x61: {
        if (registers[src] !== 'context' || offset % 4 !== 0) throw new Error('load from somewhere else');
        const word = context[offset / 4];
        if (word === undefined) throw new Error('load behind the context');
        registers[dst] = BigInt(word);
        break;
      }
      case 0xb4:
        registers[dst] = BigInt.asUintN(32, BigInt(imm));
        break;
      case 0xbc:
        registers[dst] = BigInt.asUintN(32, numberIn(registers, src));
        break;
      case 0x54:
        registers[dst] = BigInt.asUintN(32, numberIn(registers, dst) & BigInt(imm));
        break;
      case 0x74:
        registers[dst] = BigInt.asUintN(32, numberIn(registers, dst)) >> BigInt(imm);
        break;
      case 0x15:
        if (numberIn(registers, dst) === BigInt.asUintN(64, BigInt(imm))) at += 8 * offset;
        break;
      case 0x55:
        if (numberIn(registers, dst) !== BigInt.asUintN(64, BigInt(imm))) at += 8 * offset;
        break;
      case 0x5d:
        if (numberIn(registers, dst) !== numberIn(registers, src)) at += 8 * offset;
        break;
      case 0x95:
        return numberIn(registers, 0);
      default:
        throw new Error(`unknown instruction 0x${code.toString(16)}`);
    }
  }
  throw new Error('no exit');
}

/**
 * Few numbers, so that rules and accesses meet; those that a constant of 32 bits with a sign cannot
 * hold among them.
 */
const NUMBERS = [0, 1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
const number = fc.constantFrom(...NUMBERS);
const wildNumber = fc.option(fc.oneof(number, fc.constant(-1)), { nil: undefined, freq: 2 });
const letters = fc.constantFrom('r', 'w', 'm', 'rw', 'wr', 'rm', 'wm', 'mwr', 'rwm');

/** Rules as they come in config.json, none of them ill-formed. */
export const anyRule: fc.Arbitrary<DeviceRule> = fc
  .record({
    allow: fc.boolean(),
    type: fc.constantFrom('b', 'c', 'c', 'c', 'b', 'c', 'a'),
    major: wildNumber,
    minor: wildNumber,
    access: letters,
  })
  .map(({ major, minor, ...rest }) => ({
    ...rest,
    ...(major !== undefined && { major }),
    ...(minor !== undefined && { minor }),
  }));

export const anyAccess: fc.Arbitrary<Access> = fc.record({
  type: fc.constantFrom('b', 'c'),
  major: fc.oneof(number, fc.integer({ min: 0, max: 0xffff_ffff })),
  minor: fc.oneof(number, fc.integer({ min: 0, max: 0xffff_ffff })),
  bits: fc.integer({ min: 0, max: 7 }),
});
