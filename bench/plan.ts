import type { Samples } from './samples.js';
import type { Side } from './side.js';

/** What one run of the tool is about; shared by all measurements. */
export interface Plan {
  /** Lamina first. */
  readonly sides: readonly Side[];
  readonly rounds: number;
  /** Names of the measures that were asked for. */
  readonly wanted: ReadonlySet<string>;
  readonly samples: Samples;
  /** Adds a line below the table. */
  note(text: string): void;
  /** Both sides, in the order for this round: whoever goes first is not always the same. */
  inTurn(round: number): readonly Side[];
}
