/** On cgroup v2. */
import '../../integration/engine/out-of-memory.test.js';
