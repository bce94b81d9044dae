/** `lamina version` */
import { VERSION } from '../../base/index.js';
import { printLine } from '../output/print.js';

export function runVersion(): undefined {
  printLine(`lamina ${VERSION}`);
}
