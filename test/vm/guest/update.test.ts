import { testRuntimes } from '../../lib/box.js';
import { requires } from '../../lib/requires.js';
import { updateSuite } from '../../lib/update-suite.js';

const skip = requires({ root: true, cgroup: 'v2', systemd: true, runc: true, programs: ['containerd-shim-runc-v2'] });
for (const runtime of testRuntimes()) for (const systemd of [false, true]) updateSuite({ runtime, skip, systemd });
