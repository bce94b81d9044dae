import { halfMadeSuite } from '../../lib/half-made-suite.js';
import { requires } from '../../lib/requires.js';

const skip = requires({ root: true, cgroup: 'v2', systemd: true, runc: true });
for (const systemd of [false, true]) halfMadeSuite({ skip, systemd });
