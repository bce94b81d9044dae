/** The number of the signal that nothing can refuse, as a Kill request and kill(2) name it. */
import { constants } from 'node:os';

export const { SIGKILL } = constants.signals;
