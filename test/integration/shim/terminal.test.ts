import assert from 'node:assert/strict';
import { type Command, mustRun, WAIT_FOR_SIZE } from '../../lib/command.js';
import { shimSuite } from '../../lib/parity.js';
import { childrenOf, readProcLink } from '../../lib/proc.js';
import { until } from '../../lib/wait.js';

/** The terminal script(1) has made for its command. */
async function terminalOf(command: Command): Promise<string> {
  return await until('the terminal of ctr', () => {
    const ctr = childrenOf(command.pid).find((info) => info.name === 'ctr');
    const path = ctr === undefined ? '' : readProcLink(ctr.pid, 'fd/0');
    return path.startsWith('/dev/pts/') && path;
  });
}

shimSuite('a terminal (-t)', ({ scenario }) => {
  scenario('is one, with both streams in it and its line ends', async (box) => {
    const { command } = box.runAtTerminal([
      'sh',
      '-c',
      `${WAIT_FOR_SIZE}; tty; test -t 0 -a -t 1 -a -t 2 && echo all >&2; exit 6`,
    ]);
    const result = await command.result();
    assert.equal(result.stdout, '/dev/pts/0\r\nall\r\n');
    assert.equal(result.code, 6);
    return result;
  });

  scenario('has the size of the user’s, and follows it', async (box) => {
    const { command } = box.runAtTerminal(['probe', 'winsize'], { rows: 33, columns: 101 });
    // ctr sets the size after the start, so an earlier line may show none
    await command.output(/33 101\r\n/);
    const terminal = await terminalOf(command);
    await mustRun(['stty', '-F', terminal, 'rows', '20', 'cols', '60']);
    await command.output(/20 60\r\n/);
    command.write('quit\n');
    const result = await command.result();
    return { code: result.code, last: /20 60/.test(result.stdout) };
  });

  scenario('shows its size to stty', async (box) => {
    const script = 'until [ "$(stty size 2>/dev/null)" = "40 132" ]; do :; done; stty size; exit 4';
    const { command } = box.runAtTerminal(['sh', '-c', script], { rows: 40, columns: 132 });
    const result = await command.result();
    assert.equal(result.stdout, '40 132\r\n');
    return result;
  });

  scenario('turns Ctrl-C into SIGINT for the foreground process: 130', async (box) => {
    const { command } = box.runAtTerminal([
      'sh',
      '-c',
      // the foreground process itself says that it is there
      `trap "echo trapped" INT; ${WAIT_FOR_SIZE}; sh -c "echo ready; exec sleep 1000"; echo "sleep $?"; exit 130`,
    ]);
    await command.output(/ready\r\n/);
    command.write('\x03');
    const result = await command.result();
    assert.equal(result.code, 130);
    assert.match(result.stdout, /trapped\r\n/);
    assert.match(result.stdout, /sleep 130\r\n/);
    return result;
  });

  scenario('has job control: Ctrl-Z stops, fg continues', async (box) => {
    const { command } = box.runAtTerminal(['sh', '-i']);
    await command.output(/# /);
    // the shell edits lines itself and would take what is typed ahead
    command.write('echo go$((1+1)); cat\n');
    await command.output(/go2\r\n/);
    command.write('first\n');
    await command.output(/first\r\nfirst\r\n/);
    command.write('\x1a');
    await command.output(/\[1\]\+.*[Ss]topped.*cat/);
    command.write('echo go$((1+2)); fg\n');
    await command.output(/go3\r\ncat\r\n/);
    command.write('second\n');
    await command.output(/second\r\nsecond\r\n/);
    command.write('\x03');
    await command.output(/\^C\r\n.*# /s);
    command.write('exit 11\n');
    const result = await command.result();
    assert.equal(result.code, 11);
    return { code: result.code };
  });

  scenario('echoes, and stops when told to', async (box) => {
    const { command } = box.runAtTerminal([
      'sh',
      '-c',
      `${WAIT_FOR_SIZE}; stty -echo; echo ready; read x; stty echo; echo "[$x]"; read y; echo "[$y]"`,
    ]);
    await command.output(/ready\r\n/);
    command.write('secret\n');
    await command.output(/\[secret\]\r\n/);
    command.write('open\n');
    const result = await command.result();
    assert.equal(result.stdout, 'ready\r\n[secret]\r\nopen\r\n[open]\r\n');
    return result;
  });

  scenario('ends input at Ctrl-D', async (box) => {
    const { command } = box.runAtTerminal(['sh', '-c', `${WAIT_FOR_SIZE}; echo ready; cat; echo end`]);
    await command.output(/ready\r\n/);
    command.write('x\n\x04');
    const result = await command.result();
    assert.equal(result.stdout, 'ready\r\nx\r\nx\r\nend\r\n');
    return result;
  });

  scenario('keeps all output of a process that writes and leaves', async (box) => {
    const { command } = box.runAtTerminal(['sh', '-c', `${WAIT_FOR_SIZE}; exec probe drip 5000`]);
    const result = await command.result();
    const lines = result.stdout.split('\r\n');
    // The stock shim waits two seconds for what is still to be copied, and drops the rest.
    if (!box.isStock) {
      assert.equal(lines.length, 5001);
      assert.equal(lines[4999], 'line 4999');
    }
    return { code: result.code };
  });

  scenario('is hung up when its container is killed', async (box) => {
    const { id, command } = box.runAtTerminal(['sh', '-c', `${WAIT_FOR_SIZE}; echo ready; sleep 1000`]);
    await command.output(/ready/);
    await box.must(['tasks', 'kill', '-s', 'SIGKILL', id]);
    const result = await command.result();
    assert.equal(result.code, 137);
    return result;
  });
});
