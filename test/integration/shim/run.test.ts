import assert from 'node:assert/strict';
import { shimSuite } from '../../lib/parity.js';

shimSuite('ctr run', ({ scenario }) => {
  scenario('shows the output and returns success', async (box) => {
    const result = await box.run(['sh', '-c', 'echo out; echo err >&2']);
    assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code: 0 });
    return result;
  });

  for (const code of [1, 42, 255]) {
    scenario(`returns exit code ${code}`, async (box) => {
      const result = await box.run(['sh', '-c', `exit ${code}`]);
      assert.equal(result.code, code);
      return result;
    });
  }

  for (const [signal, code] of [
    ['KILL', 137],
    ['TERM', 143],
    ['SEGV', 139],
  ] as const) {
    scenario(`returns ${code} for a process that died of SIG${signal}`, async (box) => {
      // init of a pid namespace is immune to its own signals, so a child dies and the shell passes its status on
      const result = await box.run(['sh', '-c', `sh -c 'kill -${signal} $$'; exit $?`]);
      assert.equal(result.code, code);
      return { code: result.code };
    });
  }
});
