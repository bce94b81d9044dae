// On cgroup v2.
import '../../integration/shim/oom.test.js';
