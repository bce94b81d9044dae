import { testRuntimes } from '../../lib/box.js';
import { requires } from '../../lib/requires.js';
import { updateSuite } from '../../lib/update-suite.js';

for (const binary of ['runc', 'crun'] as const) {
  const skip = requires({
    root: true,
    cgroup: 'v2',
    systemd: true,
    [binary]: true,
    programs: ['containerd-shim-runc-v2'],
  });
  // The stock shim is no witness with crun, which knows nothing of the limits in force.
  for (const runtime of testRuntimes().filter(({ label }) => binary === 'runc' || label === 'lamina')) {
    for (const systemd of [false, true]) updateSuite({ runtime, skip, systemd, binary });
  }
}
