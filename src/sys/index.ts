export * from './binding.js';
export * from './gen/protocol.js';
export { addonCandidates, binding, loadBinding } from './load-binding.js';
export * from './message.js';
export * from './message-socket.js';
export * from './poller.js';
