import assert from 'node:assert/strict';
import { shimSuite } from '../../lib/parity.js';

const CONTAINERS = 50;
const AT_ONCE = 8;

shimSuite('many containers', ({ scenario }) => {
  scenario(
    `runs ${CONTAINERS}, ${AT_ONCE} at a time, each with its own output and exit code`,
    async (box) => {
      const codes = new Map<number, number>();
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < CONTAINERS) {
          const n = next;
          next += 1;
          const result = await box.run(['sh', '-c', `echo container ${n}; exit ${n}`]);
          assert.deepEqual(result, { stdout: `container ${n}\n`, stderr: '', code: n });
          codes.set(n, result.code);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
      assert.equal(codes.size, CONTAINERS);
      return codes.size;
    },
    { timeoutMs: 600_000 },
  );
});
