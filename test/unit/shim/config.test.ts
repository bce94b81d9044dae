import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code, LaminaError } from '../../../src/base/index.js';
import { DEFAULT_CONFIG, loadConfig, parseConfig } from '../../../src/shim/config.js';

describe('configuration', () => {
  it('is the defaults for an empty file', async () => {
    assert.deepEqual(await parseConfig('', 'x.toml'), DEFAULT_CONFIG);
  });

  it('takes every documented key', async () => {
    const text = `
      library = "/opt/lamina/lib/lamina"
      engine = "dedicated"
      runtime = "/usr/bin/crun"
      io = "copy"
      log_level = "debug"
      [timeouts]
      runtime_ms = 60000
      drain_ms = 2500
      engine_idle_ms = 1000
      keeper_idle_ms = 3000
      logger_ms = 4000
      read_ms = 700
    `;
    assert.deepEqual(await parseConfig(text, 'x.toml'), {
      engine: 'dedicated',
      runtime: '/usr/bin/crun',
      io: 'copy',
      logLevel: 'debug',
      timeouts: {
        runtimeMs: 60_000,
        drainMs: 2500,
        readMs: 700,
        engineIdleMs: 1000,
        keeperIdleMs: 3000,
        loggerMs: 4000,
      },
    });
  });

  const bad: readonly (readonly [text: string, message: RegExp])[] = [
    ['library = "lib"', /^x\.toml: library is "lib", expected an absolute path$/],
    ['colour = "red"', /^x\.toml: unknown key "colour"$/],
    ['engine = "both"', /^x\.toml: engine is "both", expected one of "shared", "dedicated"$/],
    ['runtime = 3', /^x\.toml: runtime is 3, expected a program name or path$/],
    ['timeouts = 3', /^x\.toml: timeouts is 3, expected a table$/],
    ['timeouts.drain_ms = -1', /^x\.toml: timeouts\.drain_ms is -1, expected milliseconds/],
    ['timeouts.lunch = 1', /^x\.toml: unknown key "timeouts\.lunch"$/],
    ['engine =', /^x\.toml: /],
  ];
  for (const [text, message] of bad) {
    it(`refuses ${JSON.stringify(text)} and names it`, async () => {
      await assert.rejects(parseConfig(text, 'x.toml'), { message, code: Code.InvalidArgument });
    });
  }

  it('fails with a typed error for any text that is no configuration', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary' }), async (text) => {
        try {
          await parseConfig(text, 'x.toml');
        } catch (error) {
          assert.ok(error instanceof LaminaError, String(error));
        }
      }),
    );
  });

  it('names a file that is asked for and cannot be read', async () => {
    process.env['LAMINA_CONFIG'] = '/nonexistent/lamina.toml';
    try {
      await assert.rejects(loadConfig(), /read \/nonexistent\/lamina\.toml: ENOENT/);
    } finally {
      delete process.env['LAMINA_CONFIG'];
    }
  });
});
