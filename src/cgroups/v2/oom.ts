/** OOM kills on v2: memory.events notifies of every change. Its counts include the groups below. */

import type { OnOom, OomWatch } from '../cgroup.js';
import type { FileChanges } from '../changes.js';
import { StatFile } from '../file.js';
import { OomCounter } from '../oom.js';
import { parseKey } from '../parse.js';

/** @throws {CgroupFileError} NotFound if there is no memory.events */
export function watchOom(dir: string, changes: FileChanges, onOom: OnOom): OomWatch {
  const path = `${dir}/memory.events`;
  const file = new StatFile(path);
  const readKills = (): bigint | undefined => {
    const text = file.readText();
    return text === undefined ? undefined : parseKey(text, 'oom_kill');
  };
  // Watched before the baseline is read: a kill in between is part of neither otherwise.
  let counter: OomCounter | undefined;
  const watch = changes.watch(path, () => counter?.check());
  counter = new OomCounter(readKills, onOom);
  return {
    drain(wasKilled = false) {
      // Notifications that wait in the queue outlive the file.
      changes.flush();
      if (wasKilled) counter.reportMissed();
      counter.check();
    },
    [Symbol.dispose]() {
      counter.end();
      watch[Symbol.dispose]();
      file.close();
    },
  };
}
