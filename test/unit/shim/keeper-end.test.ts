import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KeeperEnd } from '../../../src/shim/keeper-end.js';
import type { KeeperLink } from '../../../src/shim/keeper-link.js';
import type { Publisher } from '../../../src/shim/publisher.js';
import { until } from '../../lib/wait.js';

const DAY_MS = 86_400_000;

/** A keeper and what it keeps; `isEmpty` and `isConnected` are up to the test. */
class Stage {
  readonly stored = new Map<string, { bytes: Buffer; fd: undefined }>();
  isEmpty = true;
  isConnected = false;
  exits = 0;

  engine(): KeeperEnd {
    const link = {
      put: (name: string, bytes: Buffer) => void this.stored.set(name, { bytes, fd: undefined }),
      del: (name: string) => void this.stored.delete(name),
      exit: () => {
        this.exits += 1;
      },
    };
    return new KeeperEnd({
      link: link as unknown as KeeperLink,
      publisher: { flush: () => Promise.resolve() } as unknown as Publisher,
      idleMs: () => DAY_MS,
      isEmpty: () => this.isEmpty,
      isConnected: () => this.isConnected,
    });
  }
}

describe('KeeperEnd', () => {
  it('goes on with a Shutdown that a predecessor had taken', async () => {
    const stage = new Stage();
    stage.engine().shutdown();
    assert.ok(stage.stored.has('end/shutdown'));
    const next = new Stage();
    next.isConnected = true;
    next.engine().restore(stage.stored);
    await nextTurn();
    await nextTurn();
    assert.equal(next.exits, 1);
  });

  it('forgets a Shutdown after which a container came', async () => {
    const stage = new Stage();
    stage.stored.set('end/shutdown', { bytes: Buffer.alloc(0), fd: undefined });
    stage.isEmpty = false;
    const end = stage.engine();
    end.restore(stage.stored);
    await nextTurn();
    assert.deepEqual([...stage.stored.keys()], []);
    assert.equal(stage.exits, 0);
    end.close();
  });

  it('counts on from when the keeper became idle, whichever engine serves it', async () => {
    const stage = new Stage();
    const first = stage.engine();
    first.watch();
    const since = Number(stage.stored.get('end/idle')?.bytes.toString());
    assert.ok(since > 0);
    first.close();
    // As if it had been for almost the whole time.
    stage.stored.set('end/idle', { bytes: Buffer.from(String(since - DAY_MS)), fd: undefined });
    stage.engine().restore(stage.stored);
    await until('the keeper is ended', () => stage.exits === 1);
  });

  it('is not idle while there is a container or a connection', () => {
    const stage = new Stage();
    const end = stage.engine();
    end.watch();
    stage.isConnected = true;
    end.watch();
    assert.deepEqual([...stage.stored.keys()], []);
    end.close();
  });
});
