/** The result as a Markdown table or as JSON. */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import type { Measure } from './measures.js';
import { ratioInterval, type Samples, type Summary } from './samples.js';

export interface Row extends Measure {
  readonly lamina: Summary;
  readonly peer: Summary;
  /** Lamina's median ÷ the peer's. */
  readonly ratio: number;
  /** 95 % confidence interval of the ratio; absent where there are too few values. */
  readonly interval: readonly [number, number] | undefined;
}

export interface Report {
  readonly date: string;
  readonly machine: string;
  readonly versions: string;
  /** /proc/loadavg's first three numbers before and after; other programs disturb the figures. */
  readonly load: { readonly before: string; readonly after: string };
  /** Processor time of all programs on the machine while this ran, as a share of what there is. */
  readonly busy: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly rows: readonly Row[];
  readonly notes: readonly string[];
}

export function loadAverage(): string {
  return os
    .loadavg()
    .map((value) => value.toFixed(2))
    .join(' ');
}

/** Processor ticks so far: all, and those in which something ran. See /proc/stat in proc(5). */
export function cpuTicks(): { all: number; busy: number } {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  const all = ticks.reduce((sum, value) => sum + value, 0);
  const [, , , idle = 0, iowait = 0] = ticks;
  return { all, busy: all - idle - iowait };
}

export function machine(): string {
  const cpus = os.cpus();
  const memory = (os.totalmem() / 1e9).toFixed(0);
  return `${cpus.length} × ${cpus[0]?.model.trim() ?? 'unknown'}, ${memory} GB, Linux ${os.release()}`;
}

/** One row per measure that both sides have values for. */
export function rows(measures: readonly Measure[], samples: Samples): Row[] {
  return measures.flatMap((measure) => {
    const lamina = samples.summary(measure.name, 'lamina');
    const peer = samples.summary(measure.name, 'peer');
    if (lamina === undefined || peer === undefined) return [];
    const interval = ratioInterval(samples.values(measure.name, 'lamina'), samples.values(measure.name, 'peer'));
    return [{ ...measure, lamina, peer, ratio: lamina.median / peer.median, interval }];
  });
}

function number(value: number): string {
  if (value >= 1000) return value.toFixed(0);
  return value.toPrecision(3);
}

export function markdown(report: Report): string {
  const lines = report.rows.map(({ title, unit, lamina, peer, ratio, interval }) => {
    const cells = [lamina.median, lamina.p95, peer.median, peer.p95].map(number);
    const range = interval === undefined ? '' : interval.map((value) => value.toFixed(2)).join(' … ');
    const name = unit === '' ? title : `${title}, ${unit}`;
    return `| ${[name, ...cells, ratio < 0.01 ? ratio.toFixed(3) : ratio.toFixed(2), range, `${lamina.count}`].join(' | ')} |`;
  });
  return [
    `${report.date}, ${report.machine}. ${report.versions}.`,
    `Load average before ${report.load.before}, after ${report.load.after}; processors busy ${(report.busy * 100).toFixed(0)} % of the time, other programs included. ${report.rounds} rounds, ${report.seconds.toFixed(0)} s.`,
    '',
    '| measure | Lamina median | p95 | peer median | p95 | ratio | 95 % | n |',
    '|---|---:|---:|---:|---:|---:|---:|---:|',
    ...lines,
    '',
    ...report.notes.map((note) => `- ${note}`),
  ].join('\n');
}
