import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planStdio } from '../../../src/shim/io/stdio.js';

const request = (stdout: string, rest: { stdin?: string; stderr?: string } = {}) => ({
  stdin: rest.stdin ?? '',
  stdout,
  stderr: rest.stderr ?? '',
  terminal: false,
});

describe('planStdio', () => {
  it('gives /dev/null to a process without streams', () => {
    assert.deepEqual(planStdio(request('')), { kind: 'null' });
  });

  it('takes plain paths and fifo:// for FIFOs', () => {
    assert.deepEqual(planStdio(request('/run/a-stdout', { stdin: '/run/a-stdin', stderr: 'fifo:///run/a-stderr' })), {
      kind: 'fifo',
      stdin: '/run/a-stdin',
      stdout: '/run/a-stdout',
      stderr: '/run/a-stderr',
    });
  });

  it('plans FIFOs when only stderr or only stdin is given', () => {
    assert.equal(planStdio(request('', { stderr: '/run/a-stderr' })).kind, 'fifo');
    assert.equal(planStdio(request('', { stdin: '/run/a-stdin' })).kind, 'fifo');
  });

  it('sends file:// output to one file', () => {
    assert.deepEqual(planStdio(request('file:///var/log/a%20b.log')), { kind: 'file', path: '/var/log/a b.log' });
  });

  it('passes a logger key and first value of each parameter, in the order of the URI', () => {
    assert.deepEqual(planStdio(request('binary:///usr/bin/log?z=1&a=2&z=3&empty')), {
      kind: 'logger',
      program: '/usr/bin/log',
      args: ['z', '1', 'a', '2', 'empty', ''],
      strict: false,
    });
  });

  it('is strict about the readiness of a binary-v2 logger', () => {
    assert.deepEqual(planStdio(request('binary-v2:///usr/bin/log')), {
      kind: 'logger',
      program: '/usr/bin/log',
      args: [],
      strict: true,
    });
  });

  it('refuses an unknown scheme with the stock text', () => {
    assert.throws(() => planStdio(request('journald://x')), { message: 'unknown STDIO scheme journald' });
  });
});
