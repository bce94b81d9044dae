import assert from 'node:assert/strict';
import type { Box } from '../../lib/box.js';
import { runAtTerminal, WAIT_FOR_SIZE } from '../../lib/command.js';
import { shimSuite } from '../../lib/parity.js';
import { until } from '../../lib/wait.js';

/** Runs `work` beside a container that sleeps. */
async function inContainer<T>(box: Box, work: (id: string) => Promise<T>): Promise<T> {
  const id = await box.start(['sleep', '1000']);
  const seen = await work(id);
  await box.remove(id);
  return seen;
}

shimSuite('ctr tasks exec', ({ scenario }) => {
  for (const code of [0, 1, 42, 255]) {
    scenario(`shows the output and returns exit code ${code}`, (box) =>
      inContainer(box, async (id) => {
        const result = await box.exec(id, ['sh', '-c', `echo out; echo err >&2; exit ${code}`]);
        assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code });
        return result;
      }),
    );
  }

  scenario('returns 137 and 143 for a process that is killed', (box) =>
    inContainer(box, async (id) => {
      const codes = [];
      for (const signal of ['KILL', 'TERM']) {
        const result = await box.exec(id, ['sh', '-c', `kill -${signal} $$`]);
        codes.push(result.code);
      }
      assert.deepEqual(codes, [137, 143]);
      return codes;
    }),
  );

  scenario('hands stdin over and ends it', (box) =>
    inContainer(box, async (id) => {
      const command = box.spawn(box.execArgs(id, ['sh', '-c', 'cat; echo end']), { stdin: 'open' });
      command.write('one\ntwo\n');
      await command.output(/two\n/);
      command.closeStdin();
      const result = await command.result();
      assert.deepEqual(result, { stdout: 'one\ntwo\nend\n', stderr: '', code: 0 });
      return result;
    }),
  );

  scenario('has a terminal with -t', (box) =>
    inContainer(box, async (id) => {
      const args = box.execArgs(id, ['sh', '-c', `${WAIT_FOR_SIZE}; tty; echo err >&2; exit 8`], { flags: ['-t'] });
      const result = await runAtTerminal(box.daemon.ctrArgv(box.namespace, args)).result();
      assert.match(result.stdout, /^\/dev\/pts\/\d+\r\nerr\r\n$/);
      assert.equal(result.code, 8);
      return result;
    }),
  );

  scenario('has no terminal without -t', (box) =>
    inContainer(box, async (id) => {
      const result = await box.exec(id, ['sh', '-c', 'tty; test -t 1 || echo none']);
      assert.equal(result.stdout, 'not a tty\nnone\n');
      return result;
    }),
  );

  scenario('takes user and working directory', (box) =>
    inContainer(box, async (id) => {
      const result = await box.exec(id, ['sh', '-c', 'id -u; pwd'], { flags: ['--user', '1000', '--cwd', '/tmp'] });
      assert.equal(result.stdout, '1000\n/tmp\n');
      return result;
    }),
  );

  for (const program of ['/no/such/program', 'nosuchprogram', '/bin/not-a-program', '/tmp']) {
    scenario(`names a program that cannot be run: ${program}`, (box) =>
      inContainer(box, async (id) => {
        const result = await box.exec(id, [program]);
        assert.notEqual(result.code, 0);
        assert.match(result.stderr, /OCI runtime exec failed/);
        return result;
      }),
    );
  }

  scenario('refuses an exec id that is in use', (box) =>
    inContainer(box, async (id) => {
      const execId = `dup-${box.daemon.marker}`;
      const flags = ['--exec-id', execId, '--log-uri', `file://${box.daemon.dir}/work/dup.log`];
      await box.must(box.execArgs(id, ['sleep', '1000'], { flags: ['-d', ...flags] }));
      const result = await box.exec(id, ['true'], { flags });
      assert.match(result.stderr, /already exists/);
      return result;
    }),
  );

  scenario('kills one exec and not the container', (box) =>
    inContainer(box, async (id) => {
      const execId = `k-${box.daemon.marker}`;
      const command = box.spawn(
        box.execArgs(id, ['sh', '-c', 'echo ready; exec sleep 1000'], { flags: ['--exec-id', execId] }),
      );
      await command.output(/ready/);
      const killed = await box.ctr(['tasks', 'kill', '-s', 'SIGTERM', '--exec-id', execId, id]);
      const result = await command.result();
      assert.equal(result.code, 143);
      assert.equal(await box.status(id), 'RUNNING');
      return { killed, result };
    }),
  );

  scenario('shows all output of a process that writes and leaves', (box) =>
    inContainer(box, async (id) => {
      for (let round = 0; round < 5; round += 1) {
        const result = await box.exec(id, ['probe', 'drip', '5000']);
        // The stock shim waits two seconds for what is still to be copied, and drops the rest.
        if (!box.isStock) assert.equal(result.stdout.split('\n').length, 5001, `round ${round}`);
      }
    }),
  );

  scenario('runs many at once, each with its own output and exit code', (box) =>
    inContainer(box, async (id) => {
      const numbers = Array.from({ length: 16 }, (_, index) => index);
      const results = await Promise.all(numbers.map((n) => box.exec(id, ['sh', '-c', `echo ${n}; exit ${n}`])));
      const expected = numbers.map((n) => ({ stdout: `${n}\n`, stderr: '', code: n }));
      assert.deepEqual(results, expected);
      return results;
    }),
  );

  scenario('leaves no zombie behind, nor does what an exec has left', (box) =>
    inContainer(box, async (id) => {
      await box.exec(id, ['sh', '-c', 'sleep 0.01 & sleep 0.02 & exit 0']);
      await until(
        'only init is left',
        async () => (await box.must(['tasks', 'ps', id])).trim().split('\n').length === 2,
      );
    }),
  );

  scenario('ends with its container', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const command = box.spawn(box.execArgs(id, ['sh', '-c', 'echo ready; sleep 1000']));
    await command.output(/ready/);
    await box.must(['tasks', 'kill', '-s', 'SIGKILL', id]);
    const result = await command.result();
    assert.equal(result.code, 137);
    await box.waitForStatus(id, 'STOPPED');
    await box.remove(id);
    return result;
  });
});
