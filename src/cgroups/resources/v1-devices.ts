/**
 * The device rules of v1: lines for devices.allow and devices.deny
 * (Documentation/admin-guide/cgroup-v1/devices.rst).
 */
import type { DeviceRule } from '../../oci/index.js';
import type { Transaction } from './transaction.js';

const ALL = 'a *:*';

function lineOf({ type, major, minor, access }: DeviceRule): string {
  const number = (value: number | undefined): string => (value === undefined || value < 0 ? '*' : String(value));
  if (type === undefined || type === '' || type === 'a') return `${ALL} rwm`;
  return `${type} ${number(major)}:${number(minor)} ${access || 'rwm'}`;
}

/** devices.list: "c 1:3" → "rwm". */
function readList(files: Transaction): Map<string, string> {
  const lines = (files.read('devices.list') ?? '').matchAll(/^(. \S+) (\w+)$/gm);
  return new Map([...lines].map(([, device = '', access = '']) => [device, access]));
}

function subtract(access: string, without = ''): string {
  return [...access].filter((letter) => !without.includes(letter)).join('');
}

/**
 * Writes the rules in their order. Undone by the difference of what devices.list shows, so that
 * nothing allowed before and after is denied in between; exceptions to "all allowed" are not shown
 * there, and are not restored.
 */
export async function writeDeviceRules(files: Transaction, rules: readonly DeviceRule[]): Promise<void> {
  for (const rule of rules) {
    const before = readList(files);
    await files.writeWith(rule.allow ? 'devices.allow' : 'devices.deny', lineOf(rule), async (write) => {
      // What was an exception to "nothing allowed" is lost once all is allowed.
      if (readList(files).has(ALL) && !before.has(ALL)) await write('devices.deny', `${ALL} rwm`);
      const now = readList(files);
      for (const [device, access] of before) {
        const lost = subtract(access, now.get(device));
        if (lost !== '') await write('devices.allow', `${device} ${lost}`);
      }
      if (before.has(ALL)) return;
      for (const [device, access] of now) {
        const gained = subtract(access, before.get(device));
        if (gained !== '') await write('devices.deny', `${device} ${gained}`);
      }
    });
  }
}
