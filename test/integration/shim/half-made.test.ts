import { halfMadeSuite } from '../../lib/half-made-suite.js';
import { requires } from '../../lib/requires.js';

halfMadeSuite({ skip: requires({ root: true, runc: '1.1' }) });
