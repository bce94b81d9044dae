/**
 * Lamina's own service beside Task: which engine serves this keeper. For `lamina engine status` and
 * `upgrade`.
 */
import type { lamina } from '../../api/index.js';
import type { ServiceHandlers } from '../../ttrpc/index.js';
import type { Hello } from '../keeper-messages.js';

/** What an engine says of itself, and of no keeper. */
export type EngineStatus = Omit<
  lamina.EngineStatus,
  'keeperPid' | 'namespace' | 'id' | 'stateDir' | 'keeperVersion' | 'keeperBuild'
>;

export function createEngineService(
  status: () => EngineStatus,
  keeper: Hello,
): ServiceHandlers<typeof lamina.EngineDefinition> {
  const { keeperPid, namespace, id, stateDir, version: keeperVersion, build: keeperBuild } = keeper;
  return {
    status: () => Promise.resolve({ ...status(), keeperPid, namespace, id, stateDir, keeperVersion, keeperBuild }),
  };
}
