import { messageOf } from './errors.js';

type Step = { readonly what: string; readonly undo: () => void | Promise<void> };

/**
 * Collects what must be undone if a sequence of steps fails half way.
 *
 *     const undo = new UndoStack();
 *     try { mount(); undo.add('unmount rootfs', unmount); ... } catch (error) { await undo.run(report); throw error; }
 */
export class UndoStack {
  readonly #steps: Step[] = [];

  /** Registers how to undo a step that has just succeeded. */
  add(what: string, undo: () => void | Promise<void>): void {
    this.#steps.push({ what, undo });
  }

  /** Forgets all steps: the sequence has succeeded. */
  clear(): void {
    this.#steps.length = 0;
  }

  /** Undoes all steps, last first. A failing step is reported and does not stop the others. */
  async run(report: (message: string) => void): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        report(`undo "${step.what}": ${messageOf(error)}`);
      }
    }
  }
}
