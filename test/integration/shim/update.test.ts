import { testRuntimes } from '../../lib/box.js';
import { requires } from '../../lib/requires.js';
import { updateSuite } from '../../lib/update-suite.js';

const skip = requires({ root: true, runc: '1.1', programs: ['containerd-shim-runc-v2'] });
for (const runtime of testRuntimes()) updateSuite({ runtime, skip });
