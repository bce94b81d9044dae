import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Command } from '../../lib/command.js';
import { engines } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon } from '../../lib/shim-client.js';
import { type Figures, faults, table } from './figures.js';
import { JUDGED, Neighbour } from './neighbour.js';

const SHIMS = { Lamina: 'containerd-shim-lamina-v2', 'stock shim': 'containerd-shim-runc-v2' } as const;
/** A phase as long as this, so that the machine's own ups and downs meet all phases. */
const ROUND_SECONDS = 30;
const QUIET_SHARE = 0.25;
const WARM_SECONDS = 2;
const PASSED_ON = ['LAMINA_STATE_DIR', 'LAMINA_CONFIG', 'TMPDIR'];

class Side {
  readonly figures: Figures;
  readonly #program: string;
  readonly #daemon: FakeDaemon;
  readonly #neighbour: Neighbour;
  readonly #engines: readonly number[];
  readonly tenant: Record<string, number> = {};

  private constructor(label: string, program: string, daemon: FakeDaemon, neighbour: Neighbour) {
    this.figures = { label, quiet: new Map(), disturbed: new Map() };
    this.#program = program;
    this.#daemon = daemon;
    this.#neighbour = neighbour;
    this.#engines = engines(daemon);
  }

  static async start(label: string, program: string): Promise<Side> {
    const daemon = await FakeDaemon.start(program);
    const neighbour = await Neighbour.start(daemon);
    await neighbour.measure(new Map(), WARM_SECONDS);
    return new Side(label, program, daemon, neighbour);
  }

  async quiet(seconds: number): Promise<void> {
    await this.#neighbour.measure(this.figures.quiet, seconds);
  }

  async disturbed(seconds: number): Promise<void> {
    const env = Object.fromEntries(PASSED_ON.map((name) => [name, this.#daemon.env[name] ?? '']));
    const script = fileURLToPath(new URL('attacker.js', import.meta.url));
    const attacker = new Command([process.execPath, script, this.#program, JSON.stringify(env)], {
      timeoutMs: (seconds + 600) * 1000,
    });
    await attacker.output(/begun/);
    try {
      await this.#neighbour.measure(this.figures.disturbed, seconds);
    } finally {
      attacker.kill('SIGTERM');
    }
    const { code, stdout, stderr } = await attacker.result();
    if (code !== 0) throw new Error(`the attacker failed: ${stderr}`);
    for (const [what, count] of Object.entries(JSON.parse(stdout.split('\n')[1] ?? '{}')))
      this.tenant[what] = (this.tenant[what] ?? 0) + Number(count);
  }

  /** What is wrong besides the times. */
  faults(): string[] {
    const now = engines(this.#daemon);
    const isSame = now.length === this.#engines.length && now.every((pid) => this.#engines.includes(pid));
    return [
      ...(isSame ? [] : [`the engine was replaced: ${this.#engines.join(', ')} became ${now.join(', ')}`]),
      ...['containers', 'execs']
        .filter((what) => !(this.tenant[what] ?? 0))
        .map((what) => `no ${what} of the tenant's`),
      ...Object.keys(this.tenant).filter((what) => what.includes('could not')),
    ];
  }

  async stop(): Promise<void> {
    await this.#neighbour.stop();
    await this.#daemon.stop();
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' }, alone: { type: 'boolean' } } });
  const seconds = Number(values.seconds);
  if (!(seconds > 0)) throw new Error(`--seconds ${values.seconds} is no number of seconds`);
  const lacking = requires({ root: true, runc: '1.1', programs: [SHIMS['stock shim']] });
  if (lacking !== false) return 2;
  const rounds = Math.max(1, Math.round(seconds / ROUND_SECONDS));
  const sides: Side[] = [];
  const wrong: string[] = [];
  try {
    const shims = Object.entries(SHIMS).slice(0, values.alone === true ? 1 : undefined);
    for (const [label, program] of shims) sides.push(await Side.start(label, program));
    for (let round = 0; round < rounds; round += 1) {
      for (const side of sides) {
        await side.quiet((seconds / rounds) * QUIET_SHARE);
        await side.disturbed(seconds / rounds);
      }
    }
    for (const side of sides) {
      console.log(`\n${table(side.figures)}\n\nthe tenant: ${JSON.stringify(side.tenant)}`);
      const found = [...side.faults(), ...faults(side.figures, JUDGED)];
      for (const fault of found) console.log(`${side.figures.label}: ${fault}`);
      if (side.figures.label === 'Lamina') wrong.push(...found);
    }
  } finally {
    for (const side of sides) await side.stop();
  }
  console.log(`hostile: ${wrong.length} of ${JUDGED.length} calls are over what a neighbour may notice`);
  return wrong.length === 0 ? 0 : 1;
}

process.exit(await main());
