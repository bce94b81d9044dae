/** What messages about damage tell their reader to do. */
export const CHECK = 'run "lamina store fsck"';
export const REPAIR = 'run "lamina store fsck --repair"';
