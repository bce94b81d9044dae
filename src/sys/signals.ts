/** Signals by their numbers, as a Kill request and kill(2) name them. */
// Not from node:os, which takes an engine half a millisecond to load: they are the same on every
// Linux.
export const SIGKILL = 9;
export const SIGTERM = 15;
