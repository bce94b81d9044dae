/** Lamina's own service beside Task: which engine serves this keeper. For `lamina engine status` and `upgrade`. */
import type { lamina } from '../../api/index.js';
import type { ServiceHandlers } from '../../ttrpc/index.js';

/** What an engine says of itself. */
export type EngineStatus = Omit<lamina.EngineStatus, 'keeperPid'>;

export function createEngineService(
  status: () => EngineStatus,
  keeperPid: number,
): ServiceHandlers<typeof lamina.EngineDefinition> {
  return { status: () => Promise.resolve({ ...status(), keeperPid }) };
}
