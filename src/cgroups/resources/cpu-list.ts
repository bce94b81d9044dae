/** Lists of CPUs and memory nodes ("0-3,8"; cpuset(7), "List format"). */
import { ResourceError } from './errors.js';

/** More than any kernel can be built for; keeps a wrong number from taking all memory. */
const MAX_BITS = 1 << 16;

const REGION = /^(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9})\/([1-9]\d{0,8}))?)?$/;

/**
 * A list → its bits as systemd's AllowedCPUs takes them: byte i holds 8i to 8i+7, lowest bit first,
 * without zero bytes at the end.
 *
 * Empty elements and spaces around elements are passed over; "0-31:2/4" (the first 2 of every 4) is
 * what the kernel knows too.
 * @throws {ResourceError} for anything else
 */
export function cpuListBits(list: string, field = 'resources.cpu.cpus'): Uint8Array {
  const bits: number[] = [];
  for (const region of list.split(/[\s,]+/)) {
    if (region !== '') setRegion(bits, region, list, field);
  }
  if (bits.length === 0) throw new ResourceError(field, `${JSON.stringify(list)} is an empty list`);
  return Uint8Array.from(bits, (byte) => byte ?? 0);
}

function setRegion(bits: number[], region: string, list: string, field: string): void {
  const [, from, to = from, used = '1', group = '1'] = REGION.exec(region) ?? [];
  const [first, last] = [Number(from), Number(to)];
  if (from === undefined || last < first || Number(used) > Number(group) || Number(used) === 0) {
    throw new ResourceError(
      field,
      `${JSON.stringify(region)} in ${JSON.stringify(list)} is neither a number nor a range`,
    );
  }
  if (last >= MAX_BITS) throw new ResourceError(field, `${last} in ${JSON.stringify(list)} is too large`);
  for (let bit = first; bit <= last; bit += 1) {
    if ((bit - first) % Number(group) >= Number(used)) continue;
    const byte = bit >> 3;
    while (bits.length <= byte) bits.push(0);
    bits[byte] = (bits[byte] as number) | (1 << (bit & 7));
  }
}
