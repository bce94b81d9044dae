// On cgroup v2.
import '../../integration/shim/shim-cgroup.test.js';
