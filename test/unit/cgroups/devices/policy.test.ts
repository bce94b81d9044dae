import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../../src/base/index.js';
import {
  containerDevicePolicy,
  type DevicePolicy,
  formatDevice,
  simplifyDeviceRules,
} from '../../../../src/cgroups/devices/index.js';
import { ResourceError } from '../../../../src/cgroups/resources/errors.js';
import type { DeviceRule } from '../../../../src/oci/index.js';
import { type Access, anyAccess, anyRule, bitsOf, V1Devices } from './model.js';

const allow = (type: string, access: string, major?: number, minor?: number): DeviceRule => ({
  allow: true,
  type,
  access,
  ...(major !== undefined && { major }),
  ...(minor !== undefined && { minor }),
});
const deny = (...rule: Parameters<typeof allow>): DeviceRule => ({ ...allow(...rule), allow: false });
const DENY_ALL: DeviceRule = { allow: false, access: 'rwm' };
const ALLOW_ALL: DeviceRule = { allow: true, access: 'rwm' };

function summary({ allowByDefault, exceptions }: DevicePolicy): [string, ...string[]] {
  return [allowByDefault ? 'allow' : 'deny', ...exceptions.map(formatDevice)];
}

/** A device that only the rule's own wildcards and wider ones can have been meant for. */
function freshDevice({ type, major = -1, minor = -1 }: DeviceRule, letter: string): Access {
  assert.ok(type === 'b' || type === 'c');
  return { type, major: major === -1 ? 7777 : major, minor: minor === -1 ? 8888 : minor, bits: bitsOf(letter) };
}

/** The index of the first rule that v1 leaves without effect on a device it names. */
function firstIneffective(rules: readonly DeviceRule[]): number | undefined {
  const kernel = new V1Devices();
  for (const [index, rule] of rules.entries()) {
    kernel.write(rule);
    if (rule.type === 'a') continue;
    for (const letter of rule.access ?? '') {
      if (kernel.allows(freshDevice(rule, letter)) !== rule.allow) return index;
    }
  }
  return undefined;
}

function simplifyOrField(rules: readonly DeviceRule[]): DevicePolicy | string {
  try {
    return simplifyDeviceRules(rules);
  } catch (error) {
    assert.ok(error instanceof ResourceError);
    return error.field;
  }
}

describe('simplifying device rules', () => {
  it('starts with every device denied', () => {
    assert.deepEqual(simplifyDeviceRules([]), { allowByDefault: false, exceptions: [] });
  });

  it('drops everything before a rule for all devices', () => {
    const rules = [allow('c', 'r', 1, 3), ALLOW_ALL, deny('b', 'w', 8), DENY_ALL, allow('c', 'rwm', 1, 5)];
    assert.deepEqual(summary(simplifyDeviceRules(rules)), ['deny', 'c 1:5 rwm']);
    assert.deepEqual(summary(simplifyDeviceRules([...rules, allow('a', 'r', 1, 3)])), ['allow']);
  });

  it('merges what is allowed of one device, and takes away what is denied of it', () => {
    const rules = [DENY_ALL, allow('c', 'mr', 1, 3), allow('c', 'w', 1, 3), allow('b', 'w', 8), deny('c', 'rw', 1, 3)];
    assert.deepEqual(summary(simplifyDeviceRules(rules)), ['deny', 'b 8:* w', 'c 1:3 m']);
    assert.deepEqual(summary(simplifyDeviceRules([...rules, deny('c', 'm', 1, 3)])), ['deny', 'b 8:* w']);
  });

  it('keeps the denied ones when everything else is allowed', () => {
    const rules = [ALLOW_ALL, deny('c', 'rw', 1, 5), deny('b', 'm'), allow('c', 'w', 1, 5), allow('c', 'rwm', 1, 9)];
    assert.deepEqual(summary(simplifyDeviceRules(rules)), ['allow', 'b *:* m', 'c 1:5 r']);
  });

  it('takes -1 and absence for all numbers, and no type for all devices', () => {
    const rules = [allow('c', 'r', -1, -1), allow('c', 'w'), allow('c', 'm', 5, -1), allow('c', 'm', -1, 0)];
    assert.deepEqual(summary(simplifyDeviceRules(rules)), ['deny', 'c *:* rw', 'c *:0 m', 'c 5:* m']);
    assert.deepEqual(summary(simplifyDeviceRules([{ allow: true, access: 'r', major: 1 }])), ['allow']);
    assert.deepEqual(summary(simplifyDeviceRules([{ allow: true, access: 'r', type: '' }])), ['allow']);
  });

  it('refuses a rule that would take back a part of a wildcard exception, as nothing would come of it', () => {
    for (const wildcard of [allow('c', 'rw'), allow('c', 'rw', 1), allow('c', 'rw', undefined, 3)]) {
      const rules = [DENY_ALL, wildcard, deny('c', 'rwm', 1, 3)];
      assert.throws(
        () => simplifyDeviceRules(rules),
        (error) => {
          assert.ok(error instanceof ResourceError);
          assert.equal(error.code, Code.InvalidArgument);
          assert.equal(error.field, 'resources.devices[2]');
          assert.match(error.message, /"c 1:3 rwm" .* "c .* rw"/);
          return true;
        },
      );
      assert.doesNotThrow(() => simplifyDeviceRules([DENY_ALL, wildcard, deny('c', 'm', 1, 3)]));
      assert.doesNotThrow(() => simplifyDeviceRules([DENY_ALL, wildcard, deny('b', 'rw', 1, 3)]));
    }
    assert.throws(() => simplifyDeviceRules([ALLOW_ALL, deny('b', 'w'), allow('b', 'w', 8)]), {
      field: 'resources.devices[2]',
    });
  });

  it('names the field of a rule that cannot be', () => {
    const bad: readonly (readonly [Partial<DeviceRule>, string])[] = [
      [{ type: 'p' }, 'type'],
      [{ type: 'cb' }, 'type'],
      [{ access: '' }, 'access'],
      [{ access: 'rx' }, 'access'],
      [{ access: 'rwmr' }, 'access'],
      [{ major: -2 }, 'major'],
      [{ major: 1.5 }, 'major'],
      [{ minor: 2 ** 32 }, 'minor'],
      [{ minor: Number.NaN }, 'minor'],
      [{ type: 'a', access: 'x' }, 'access'],
    ];
    for (const [change, field] of bad) {
      const rules = [DENY_ALL, allow('c', 'm'), { ...allow('c', 'r', 1, 3), ...change }];
      assert.throws(() => simplifyDeviceRules(rules), {
        name: 'ResourceError',
        code: Code.InvalidArgument,
        field: `resources.devices[2].${field}`,
      });
    }
    assert.throws(() => simplifyDeviceRules([{ allow: true, type: 'c' }]), { field: 'resources.devices[0].access' });
  });

  it('gives a denied spec the devices every container has', () => {
    assert.deepEqual(summary(containerDevicePolicy([DENY_ALL])), [
      'deny',
      'b *:* m',
      'c *:* m',
      'c 1:3 rwm',
      'c 1:5 rwm',
      'c 1:7 rwm',
      'c 1:8 rwm',
      'c 1:9 rwm',
      'c 5:0 rwm',
      'c 5:2 rwm',
      'c 10:200 rwm',
      'c 136:* rwm',
    ]);
    assert.deepEqual(summary(containerDevicePolicy([ALLOW_ALL])), ['allow']);
    const hole = [ALLOW_ALL, deny('c', 'r')];
    assert.throws(() => containerDevicePolicy(hole), { field: 'resources.devices[4]' });
  });

  it('decides as the kernel does on v1, and refuses exactly the rules that have no effect there', () => {
    let refused = 0;
    const rules = fc.array(anyRule, { maxLength: 10 });
    const property = fc.property(rules, fc.array(anyAccess, { minLength: 10, maxLength: 10 }), (list, accesses) => {
      const ineffective = firstIneffective(list);
      const result = simplifyOrField(list);
      if (ineffective !== undefined || typeof result === 'string') {
        assert.equal(result, `resources.devices[${ineffective}]`);
        refused += 1;
        return;
      }
      const [written, simplified] = [new V1Devices(), new V1Devices()];
      for (const rule of list) written.write(rule);
      simplified.write({ allow: result.allowByDefault, access: 'rwm' });
      for (const { type, major, minor, access } of result.exceptions) {
        const numbers = { major: major === '*' ? -1 : major, minor: minor === '*' ? -1 : minor };
        simplified.write({ allow: !result.allowByDefault, type, ...numbers, access });
      }
      for (const access of accesses) assert.equal(simplified.allows(access), written.allows(access));
    });
    fc.assert(property, { numRuns: 2000 });
    assert.ok(refused > 50 && refused < 1500, `${refused} of 2000 lists were refused`);
  });
});
