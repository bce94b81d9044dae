/** The remedies that messages about damage name. */
export const CHECK = 'run "lamina store fsck"';
export const REPAIR = 'run "lamina store fsck --repair"';
