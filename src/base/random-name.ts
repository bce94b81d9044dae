/**
 * A short name that is unlikely to be taken. No secret: who uses it makes the file exclusively
 * (O_EXCL), so that one that is there is an error and not followed. Math.random is enough for that,
 * and node:crypto takes longer to load than anything else in the engine's first Create.
 */
export function randomName(): string {
  return Math.random().toString(36).slice(2).padEnd(11, '0');
}
