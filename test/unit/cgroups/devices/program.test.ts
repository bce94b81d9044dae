import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compileDeviceProgram, type DevicePolicy } from '../../../../src/cgroups/devices/index.js';
import { anyAccess, anyRule, runProgram, V1Devices } from './model.js';
import { simplifyUnlessRefused } from './refused.js';

/**
 * One hexadecimal number per instruction: code, registers, offset (2 bytes), constant (4 bytes).
 */
function listing(policy: DevicePolicy, order: 'LE' | 'BE' = 'LE'): string[] {
  return Buffer.from(compileDeviceProgram(policy, order)).toString('hex').match(/.{16}/g) ?? [];
}

const PROLOGUE = [
  '6112000000000000', // r2 = context[0]
  'bc23000000000000', // r3 = r2
  '54020000ffff0000', // r2 &= 0xffff
  '7403000010000000', // r3 >>= 16
  '6114040000000000', // r4 = context[4]
  '6115080000000000', // r5 = context[8]
];
const ALLOW = ['b400000001000000', '9500000000000000'];
const DENY = ['b400000000000000', '9500000000000000'];

describe('device program', () => {
  it('of a policy without exceptions returns the default', () => {
    assert.deepEqual(listing({ allowByDefault: false, exceptions: [] }), [...PROLOGUE, ...DENY]);
    assert.deepEqual(listing({ allowByDefault: true, exceptions: [] }), [...PROLOGUE, ...ALLOW]);
  });

  it('asks for type, numbers and access of each exception, as far as they matter', () => {
    const policy: DevicePolicy = {
      allowByDefault: false,
      exceptions: [
        { type: 'b', major: '*', minor: '*', access: 'm' },
        { type: 'c', major: 1, minor: 3, access: 'rwm' },
        { type: 'c', major: 0xffff_fffe, minor: '*', access: 'rw' },
      ],
    };
    assert.deepEqual(listing(policy), [
      ...PROLOGUE,
      '5502050001000000', // if r2 != 1 goto next
      'bc31000000000000', // r1 = r3
      '5401000006000000', // r1 &= 6
      '5501020000000000', // if r1 != 0 goto next
      ...ALLOW,
      '5502040002000000', // if r2 != 2 goto next
      '5504030001000000', // if r4 != 1 goto next
      '5505020003000000', // if r5 != 3 goto next
      ...ALLOW,
      '5502070002000000', // if r2 != 2 goto next
      'bc31000000000000', // r1 = r3
      '5401000001000000', // r1 &= 1
      '5501040000000000', // if r1 != 0 goto next
      'b4010000feffffff', // r1 = 0xfffffffe
      '5d14020000000000', // if r4 != r1 goto next
      ...ALLOW,
      ...DENY,
    ]);
  });

  it('denies an access that is denied in part', () => {
    const policy: DevicePolicy = {
      allowByDefault: true,
      exceptions: [{ type: 'c', major: 1, minor: '*', access: 'r' }],
    };
    assert.deepEqual(listing(policy), [
      ...PROLOGUE,
      '5502060002000000', // if r2 != 2 goto next
      'bc31000000000000', // r1 = r3
      '5401000002000000', // r1 &= 2
      '1501030000000000', // if r1 == 0 goto next
      '5504020001000000', // if r4 != 1 goto next
      ...DENY,
      ...ALLOW,
    ]);
    const program = compileDeviceProgram(policy, 'LE');
    assert.equal(runProgram(program, { type: 'c', major: 1, minor: 5, bits: 2 | 4 }), 0n);
    assert.equal(runProgram(program, { type: 'c', major: 1, minor: 5, bits: 4 }), 1n);
  });

  it('swaps the registers, too, for a big-endian machine', () => {
    const policy: DevicePolicy = { allowByDefault: true, exceptions: [] };
    assert.deepEqual(listing(policy, 'BE'), [
      '6121000000000000',
      'bc32000000000000',
      '542000000000ffff',
      '7430000000000010',
      '6141000400000000',
      '6151000800000000',
      'b400000000000001',
      '9500000000000000',
    ]);
  });

  it('decides every access as the rules do on v1', () => {
    const rules = fc.array(anyRule, { maxLength: 8 });
    const accesses = fc.array(anyAccess, { minLength: 10, maxLength: 10 });
    let allowed = 0;
    const property = fc.property(
      rules,
      accesses,
      fc.constantFrom('LE' as const, 'BE' as const),
      (list, wanted, order) => {
        const policy = simplifyUnlessRefused(list);
        fc.pre(policy !== undefined);
        const kernel = new V1Devices();
        for (const rule of list) kernel.write(rule);
        const program = compileDeviceProgram(policy, order);
        for (const access of wanted) {
          const expected = kernel.allows(access);
          assert.equal(runProgram(program, access, order), expected ? 1n : 0n);
          allowed += expected ? 1 : 0;
        }
      },
    );
    fc.assert(property, { numRuns: 3000 });
    assert.ok(allowed > 1000 && allowed < 29_000, `${allowed} of 30000 accesses were allowed`);
  });
});
