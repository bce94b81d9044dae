/** Runs the cases through both managers, and finds where the outcome differs. */
import { existsSync } from 'node:fs';
import { messageOf } from '../../../../src/base/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { mustRun } from '../../../lib/command.js';
import type { Case, Disk } from './case.js';
import { type Driver, laminaGroup, type Maker, runcGroup, type Subject } from './groups.js';
import { probeDevices, readFiles, readUnits, type Settings } from './snapshot.js';

export const MAKERS: readonly Maker[] = ['lamina', 'runc'];

/** Right after the step, and after systemd has read its units again and applied what it knows. */
export type Moment = 'set' | 'reload';

/**
 * `outcome` and `left behind` are among the keys. `undone`: ours are not what they were before the
 * reload.
 */
export interface Difference {
  readonly key: string;
  readonly moment: Moment | 'undone';
  readonly lamina: string | undefined;
  readonly runc: string | undefined;
}

const OUTCOME = 'outcome';
/** There only where no group was made. */
const LEFT_BEHIND = 'left behind';

/** How one step of one case went with one driver. */
export interface Row {
  readonly name: string;
  readonly driver: Driver;
  readonly step: number;
  readonly asked: LinuxResources;
  readonly settings: Readonly<Record<Maker, Readonly<Record<Moment, Settings>>>>;
  readonly errors: Readonly<Partial<Record<Maker, string>>>;
  readonly differences: readonly Difference[];
}

interface Running {
  readonly case: Case;
  readonly subjects: Readonly<Record<Maker, Subject>>;
  readonly created: Set<Maker>;
}

/** What one step did, before it is read back. */
type Outcomes = Map<Subject, string | undefined>;

/**
 * All steps of all cases with one driver; every case has groups of its own, and all are there at
 * once, so that systemd reloads once a step.
 */
export async function runCases(driver: Driver, cases: readonly Case[], disk: Disk): Promise<Row[]> {
  const running = cases.map((each): Running => {
    const subjects = { lamina: laminaGroup(driver, each.name), runc: runcGroup(driver, each.name) };
    return { case: each, subjects, created: new Set() };
  });
  try {
    const rows: Row[] = [];
    const last = Math.max(...cases.map((each) => each.steps.length));
    for (let step = 0; step < last; step += 1) {
      rows.push(
        ...(await runStep(
          driver,
          step,
          running.filter((each) => isTaking(each, step)),
          disk,
        )),
      );
    }
    return rows;
  } finally {
    for (const { subjects } of running) for (const maker of MAKERS) await subjects[maker].remove();
  }
}

/** A group that was not created cannot be updated. */
function isTaking(running: Running, step: number): boolean {
  return step < running.case.steps.length && (step === 0 || running.created.size === MAKERS.length);
}

async function runStep(driver: Driver, step: number, running: readonly Running[], disk: Disk): Promise<Row[]> {
  const outcomes: Outcomes = new Map();
  for (const each of running)
    for (const maker of MAKERS) outcomes.set(each.subjects[maker], await take(each, maker, step));
  const set = await readAll(running, outcomes, disk);
  await mustRun(['systemctl', 'daemon-reload'], { timeoutMs: 120_000 });
  const reload = await readAll(running, outcomes, disk);
  return running.map((each) => {
    const of = (moment: ReadonlyMap<Subject, Settings>, maker: Maker): Settings =>
      moment.get(each.subjects[maker]) ?? new Map();
    const settings = {
      lamina: { set: of(set, 'lamina'), reload: of(reload, 'lamina') },
      runc: { set: of(set, 'runc'), reload: of(reload, 'runc') },
    };
    const errors = MAKERS.map((maker) => [maker, outcomes.get(each.subjects[maker])] as const);
    return {
      name: each.case.name,
      driver,
      step,
      asked: each.case.steps[step] ?? {},
      settings,
      errors: Object.fromEntries(errors.filter(([, error]) => error !== undefined)),
      differences: differencesOf(settings),
    };
  });
}

/** Returns why it was refused. */
async function take(running: Running, maker: Maker, step: number): Promise<string | undefined> {
  const subject = running.subjects[maker];
  try {
    if (step === 0) await subject.create(running.case.steps[0] ?? {});
    else await subject.update(running.case.steps[step] ?? {});
    running.created.add(maker);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

async function readAll(running: readonly Running[], outcomes: Outcomes, disk: Disk): Promise<Map<Subject, Settings>> {
  const alive = running.flatMap(({ subjects, created }) =>
    MAKERS.filter((maker) => created.has(maker)).map((maker) => subjects[maker]),
  );
  const units = await readUnits(alive.map(({ unit }) => unit).filter((unit) => unit !== undefined));
  const all = new Map<Subject, Settings>();
  for (const each of running) {
    for (const maker of MAKERS) {
      const subject = each.subjects[maker];
      const outcome = outcomes.get(subject) === undefined ? 'done' : 'refused';
      const own = each.created.has(maker)
        ? [...readFiles(subject.dir), ...(units.get(subject.unit ?? '') ?? [])]
        : [[LEFT_BEHIND, existsSync(subject.dir) ? subject.dir : 'nothing'] as const];
      const probed = isProbed(each) ? await probeDevices(subject.dir, disk) : [];
      all.set(subject, new Map([[OUTCOME, outcome], ...own, ...probed]));
    }
  }
  return all;
}

/** Costs forty processes. */
function isProbed({ case: { steps }, created }: Running): boolean {
  return created.size === MAKERS.length && steps.some((step) => step.devices !== undefined);
}

function changed(before: Settings, after: Settings): string[] {
  return [...new Set([...before.keys(), ...after.keys()])].filter((key) => before.get(key) !== after.get(key));
}

function differencesOf({ lamina, runc }: Row['settings']): Difference[] {
  if (lamina.set.has(LEFT_BEHIND) !== runc.set.has(LEFT_BEHIND)) {
    return [OUTCOME, LEFT_BEHIND].map((key) => ({
      key,
      moment: 'set',
      lamina: lamina.set.get(key),
      runc: runc.set.get(key),
    }));
  }
  const of = (moment: Moment, key: string): Difference => ({
    key,
    moment,
    lamina: lamina[moment].get(key),
    runc: runc[moment].get(key),
  });
  const set = changed(lamina.set, runc.set).map((key) => of('set', key));
  const known = new Map(set.map((difference) => [difference.key, difference]));
  const reload = changed(lamina.reload, runc.reload).map((key) => of('reload', key));
  // What has not changed since is not told twice.
  const isNew = (now: Difference): boolean => {
    const before = known.get(now.key);
    return before === undefined || before.lamina !== now.lamina || before.runc !== now.runc;
  };
  const undone = changed(lamina.set, lamina.reload).map((key) => ({ ...of('reload', key), moment: 'undone' as const }));
  return [...set, ...reload.filter(isNew), ...undone];
}
