import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from '../../lib/box.js';
import { type Choice, chosenCases, HOWS, type How, SIZES, STREAMS } from '../../lib/matrix/cases.js';
import { writeData } from '../../lib/matrix/data.js';
import type { Client } from '../../lib/matrix/player.js';
import { playAll } from '../../lib/matrix/suite.js';
import { shimSuite } from '../../lib/parity.js';

/** Clients that run at the same time. */
const AT_ONCE = 6;

/** An exec is cheap; a container takes its time. */
const CHOICES: Readonly<Record<How, Choice>> = {
  exec: { first: SIZES, later: [40, 15_000] },
  run: { first: [0, 40, 15_000, 1_000_000], later: [] },
};
/** With the stock shim, which shows that the expectations are right. */
const WITNESS: Readonly<Record<How, Choice>> = {
  exec: { first: [0, 40, 15_000], later: [40] },
  run: { first: [40], later: [] },
};

/** ctr below the private daemon. Execs go into one container. */
function clientOf(box: Box, container: string): Client {
  const folder = join(box.daemon.dir, 'matrix');
  const mount = ['--mount', `type=bind,src=${folder},dst=/data,options=rbind:ro`];
  return {
    folder,
    missesEarlyEnd: true,
    argv(test, argv, terminal) {
      const flags = terminal ? ['-t'] : [];
      const args =
        test.how === 'exec'
          ? box.execArgs(container, argv, { flags })
          : box.runArgs(box.id(), argv, { flags: ['--rm', ...mount, ...flags] });
      return box.daemon.ctrArgv(box.namespace, args);
    },
  };
}

shimSuite('bytes through ctr', ({ scenario }) => {
  for (const how of HOWS) {
    for (const stream of STREAMS) {
      const run = async (box: Box): Promise<void> => {
        const { folder } = clientOf(box, '');
        mkdirSync(folder, { recursive: true });
        writeData(folder);
        const mount = ['--mount', `type=bind,src=${folder},dst=/data,options=rbind:ro`];
        const container = await box.start(['sleep', '1000000'], { flags: mount });
        await playAll(
          clientOf(box, container),
          chosenCases(how, stream, (box.isStock ? WITNESS : CHOICES)[how]),
          AT_ONCE,
        );
        assert.equal(await box.status(container), 'RUNNING');
        await box.remove(container);
      };
      scenario(`arrive as they were sent: ${how}, ${stream}`, run, { differs: 'compared with what was sent' });
    }
  }
});
