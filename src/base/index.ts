export * from './byte-path.js';
export * from './deferred.js';
export * from './errors.js';
export * from './log.js';
export * from './queue.js';
export * from './random-name.js';
export * from './undo.js';
export * from './version.js';
