import type { KeeperEvents } from '../../src/shim/keeper-link.js';

/** For tests of the link itself: whatever a keeper tells is heard and ignored. */
export const IGNORED: KeeperEvents = {
  onAccepted: () => undefined,
  onFrame: () => undefined,
  onClosed: () => undefined,
  onExited: () => undefined,
  onRelay: () => undefined,
  onReplayed: () => undefined,
  onSignaled: () => undefined,
  onGone: () => undefined,
};
