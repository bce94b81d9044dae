import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';

const U64_MAX = 2n ** 64n - 1n;

/** Bytes from hex, blanks ignored. */
function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
}

/** A length-delimited field, for field numbers below 16 and short contents: tag, length, text. */
function field(number: number, content: string | Uint8Array): string {
  const bytes = Buffer.from(content);
  assert.ok(number < 16 && bytes.length < 128);
  return Buffer.concat([Buffer.of((number << 3) | 2, bytes.length), bytes]).toString('hex');
}

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(input: Uint8Array): T;
}

/** Asserts that a message and these bytes are each other's encoding. */
function assertWire<T>(codec: Codec<T>, message: T, bytes: Uint8Array): void {
  assert.equal(Buffer.from(codec.encode(message).finish()).toString('hex'), Buffer.from(bytes).toString('hex'));
  assert.deepEqual(codec.decode(bytes), message);
}

describe('task messages on the wire', () => {
  it('CreateTaskRequest has containerd’s numbers', () => {
    const mount = { type: 'overlay', source: 'overlay', target: '', options: ['ro', 'x=y'] };
    const message: api.taskV2.CreateTaskRequest = {
      id: 'c1',
      bundle: '/b',
      rootfs: [mount],
      terminal: true,
      stdin: 'i',
      stdout: 'o',
      stderr: 'e',
      checkpoint: 'cp',
      parentCheckpoint: 'pcp',
      options: { typeUrl: 'containerd.runc.v1.Options', value: hex('4801') },
    };
    const bytes = hex(
      field(1, 'c1') +
        field(2, '/b') +
        field(3, hex(field(1, 'overlay') + field(2, 'overlay') + field(4, 'ro') + field(4, 'x=y'))) +
        '2001' +
        field(5, 'i') +
        field(6, 'o') +
        field(7, 'e') +
        field(8, 'cp') +
        field(9, 'pcp') +
        field(10, hex(field(1, 'containerd.runc.v1.Options') + field(2, hex('4801')))),
    );
    assertWire(api.taskV2.CreateTaskRequest, message, bytes);
    assertWire(api.taskV3.CreateTaskRequest, message, bytes);
  });

  it('StateResponse keeps nanoseconds', () => {
    const message: api.taskV2.StateResponse = {
      id: 'c1',
      bundle: '/b',
      pid: 300,
      status: api.Status.STOPPED,
      stdin: '',
      stdout: '',
      stderr: '',
      terminal: false,
      exitStatus: 137,
      exitedAt: { seconds: 1_700_000_000n, nanos: 123_456_789 },
      execId: 'x',
    };
    const bytes = hex(
      `${field(1, 'c1')}${field(2, '/b')}18ac02 2003 488901 520b 0880e2cfaa06 10959aef3a ${field(11, 'x')}`,
    );
    assertWire(api.taskV2.StateResponse, message, bytes);
    assertWire(api.taskV3.StateResponse, message, bytes);
  });

  it('a process that lives carries Go’s zero time', () => {
    const message = { exitStatus: 0, exitedAt: api.goZeroTime() };
    assertWire(api.taskV2.WaitResponse, message, hex('120b 0880 92b8 c398 feff ffff 01'));
    const decoded = api.taskV2.WaitResponse.decode(hex('120b 0880 92b8 c398 feff ffff 01'));
    assert.ok(decoded.exitedAt !== undefined && api.isGoZeroTime(decoded.exitedAt));
  });

  it('Kill, Update, CloseIO, ResizePty and Checkpoint have containerd’s numbers', () => {
    assertWire(
      api.taskV2.KillRequest,
      { id: 'c', execId: 'e', signal: 9, all: true },
      hex(`${field(1, 'c')}${field(2, 'e')}18092001`),
    );
    assertWire(
      api.taskV2.UpdateTaskRequest,
      { id: 'c', resources: { typeUrl: 'u', value: hex('7b7d') }, annotations: { k: 'v' } },
      hex(field(1, 'c') + field(2, hex(field(1, 'u') + field(2, '{}'))) + field(3, hex(field(1, 'k') + field(2, 'v')))),
    );
    assertWire(
      api.taskV2.CloseIORequest,
      { id: 'c', execId: 'e', stdin: true },
      hex(`${field(1, 'c')}${field(2, 'e')}1801`),
    );
    assertWire(
      api.taskV2.ResizePtyRequest,
      { id: 'c', execId: '', width: 80, height: 24 },
      hex(`${field(1, 'c')}18502018`),
    );
    assertWire(
      api.taskV2.CheckpointTaskRequest,
      { id: 'c', path: '/p', options: undefined },
      hex(field(1, 'c') + field(2, '/p')),
    );
  });

  it('skips unknown fields of a newer peer', () => {
    const bytes = hex(`${field(1, 'c')} 980101 ${field(15, 'new')} 7900000000000000 00 ${field(2, 'e')}`);
    assert.deepEqual(api.taskV2.StateRequest.decode(bytes), { id: 'c', execId: 'e' });
  });

  it('refuses a truncated message', () => {
    assert.throws(() => api.taskV2.StateRequest.decode(hex('0a05 6162')), RangeError);
  });
});

describe('service definitions', () => {
  it('name all methods as they appear on the wire', () => {
    const names = (methods: object) => Object.values(methods).map((method: { name: string }) => method.name);
    const expected =
      'State Create Start Delete Pids Pause Resume Checkpoint Kill Exec ResizePty CloseIO Update Wait Stats Connect Shutdown';
    assert.equal(names(api.taskV2.TaskDefinition.methods).join(' '), expected);
    assert.equal(names(api.taskV3.TaskDefinition.methods).join(' '), expected);
    assert.equal(api.taskV2.TaskDefinition.fullName, 'containerd.task.v2.Task');
    assert.equal(api.taskV3.TaskDefinition.fullName, 'containerd.task.v3.Task');
    assert.equal(api.forward.EventsDefinition.fullName, 'containerd.services.events.ttrpc.v1.Events');
    assert.equal(api.sandbox.SandboxDefinition.fullName, 'containerd.runtime.sandbox.v1.Sandbox');
    assert.equal(
      names(api.sandbox.SandboxDefinition.methods).join(' '),
      'CreateSandbox StartSandbox Platform StopSandbox WaitSandbox SandboxStatus PingSandbox ShutdownSandbox SandboxMetrics',
    );
  });
});

describe('events on the wire', () => {
  it('TaskExit inside an envelope, under its bare name', () => {
    const exit: api.events.TaskExit = {
      containerId: 'c',
      id: 'e',
      pid: 1,
      exitStatus: 2,
      exitedAt: { seconds: 1n, nanos: 999_999_999 },
    };
    const exitBytes = hex(`${field(1, 'c')}${field(2, 'e')}18012002 2a08 0801 10ff93ebdc03`);
    assertWire(api.events.TaskExit, exit, exitBytes);
    const event = api.packMessage(api.events.TaskExit, exit);
    assert.equal(event.typeUrl, 'containerd.events.TaskExit');
    const envelope = { timestamp: { seconds: 2n, nanos: 0 }, namespace: 'k8s.io', topic: '/tasks/exit', event };
    assertWire(
      api.forward.ForwardRequest,
      { envelope },
      hex(
        field(
          1,
          hex(
            field(1, hex('0802')) +
              field(2, 'k8s.io') +
              field(3, '/tasks/exit') +
              field(4, hex(field(1, 'containerd.events.TaskExit') + field(2, exitBytes))),
          ),
        ),
      ),
    );
  });

  it('TaskCreate and TaskDelete have containerd’s numbers', () => {
    assertWire(
      api.events.TaskCreate,
      {
        containerId: 'c',
        bundle: '/b',
        rootfs: [],
        io: { stdin: 'i', stdout: 'o', stderr: 'e', terminal: true },
        checkpoint: 'p',
        pid: 7,
      },
      hex(
        `${field(1, 'c')}${field(2, '/b')}${field(4, hex(`${field(1, 'i')}${field(2, 'o')}${field(3, 'e')}2001`))}${field(5, 'p')}3007`,
      ),
    );
    assertWire(
      api.events.TaskDelete,
      { containerId: 'c', pid: 1, exitStatus: 2, exitedAt: undefined, id: 'e' },
      hex(`${field(1, 'c')}10011802${field(5, 'e')}`),
    );
  });
});

describe('metrics on the wire', () => {
  it('cgroup v2: the largest u64 survives', () => {
    const message = api.cgroupsV2.Metrics.fromPartial({
      pids: { current: 1n, limit: U64_MAX },
      memory: { usage: 4096n, usageLimit: U64_MAX, workingsetActivateFile: 1n },
      memoryEvents: { oomKill: 3n },
    });
    const bytes = hex(
      '0a0d 0801 10ffffffffffffffffff01' + '2213 80028020 8802ffffffffffffffffff01 d00201' + '42022803',
    );
    assertWire(api.cgroupsV2.Metrics, message, bytes);
    assert.equal(api.cgroupsV2.Metrics.decode(bytes).memory?.usageLimit, U64_MAX);
  });

  it('cgroup v2: pressure averages are doubles', () => {
    const message = { some: { avg10: 1.5, avg60: 0, avg300: 0.25, total: 12n }, full: undefined };
    assertWire(api.cgroupsV2.PSIStats, message, hex('0a14 09000000000000f83f 19000000000000d03f 200c'));
  });

  it('cgroup v1: nested entries and packed per-cpu times', () => {
    const message = api.cgroupsV1.Metrics.fromPartial({
      cpu: { usage: { total: 300n, perCpu: [1n, 299n] }, throttling: { throttledTime: 5n } },
      memory: { hierarchicalMemoryLimit: U64_MAX, kernelTcp: { limit: 9n } },
      memoryOomControl: { oomKill: 1n },
    });
    const bytes = hex(
      '1a0e 0a08 08ac02 220301ab02 1202 1805' + '2211 8001ffffffffffffffffff01 a202020809' + '4a021801',
    );
    assertWire(api.cgroupsV1.Metrics, message, bytes);
  });
});

describe('options and bootstrap on the wire', () => {
  it('runc options, criu_path of containerd 1.x included', () => {
    const message = api.runc.Options.fromPartial({
      binaryName: 'crun',
      root: '/r',
      criuPath: 'criu',
      systemdCgroup: true,
    });
    assertWire(api.runc.Options, message, hex(`${field(6, 'crun')}${field(7, '/r')}${field(8, 'criu')}4801`));
  });

  it('runtimeoptions carry a body', () => {
    const message = { typeUrl: '', configPath: '', configBody: hex('613d31') };
    assertWire(api.runtimeOptions.Options, message, hex(field(3, 'a=1')));
  });

  it('bootstrap parameters: a negative log level takes ten bytes, and an absent socket_dir stays absent', () => {
    const message = api.bootstrap.BootstrapParams.fromPartial({
      instanceId: 'c',
      namespace: 'n',
      logLevel: api.bootstrap.LogLevel.LOG_LEVEL_DEBUG,
      extensions: [{ value: { typeUrl: 'u', value: hex('01') } }],
    });
    assert.equal(message.socketDir, undefined);
    const bytes = hex(
      field(1, 'c') +
        field(2, 'n') +
        '18fcffffffffffffffff01' +
        field(8, hex(field(1, hex(field(1, 'u') + field(2, hex('01')))))),
    );
    assertWire(api.bootstrap.BootstrapParams, message, bytes);
    const withDir = api.bootstrap.BootstrapParams.decode(hex(field(9, '')));
    assert.equal(withDir.socketDir, '');
  });

  it('a bootstrap result', () => {
    const message = { version: 3, address: 'unix:///s', protocol: 'ttrpc', capabilities: [], metadata: { a: 'b' } };
    const bytes = hex(
      `0803${field(2, 'unix:///s')}${field(3, 'ttrpc')}${field(5, hex(field(1, 'a') + field(2, 'b')))}`,
    );
    assertWire(api.bootstrap.BootstrapResult, message, bytes);
  });

  it('-info’s answer', () => {
    const message = {
      name: 'n',
      version: { version: '1', revision: 'r' },
      options: undefined,
      features: api.packJson(api.OCI_TYPE_URL.features, {}),
      annotations: {},
    };
    const url = 'types.containerd.io/opencontainers/runtime-spec/1/features/Features';
    const bytes = hex(
      field(1, 'n') + field(2, hex(field(1, '1') + field(2, 'r'))) + field(4, hex(field(1, url) + field(2, '{}'))),
    );
    assertWire(api.RuntimeInfo, message, bytes);
  });
});
