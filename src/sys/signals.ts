/** Numbers of signals, as a Kill request and kill(2) name them. */
import { constants } from 'node:os';

export const { SIGKILL, SIGTERM } = constants.signals;
