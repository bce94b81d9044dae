/**
 * A network plugin for pods that need a network namespace but no network: it says that all is well.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** As the CNI specification wants it of ADD; nobody ever sends anything to the address. */
const ANSWER = `{
  "cniVersion": "0.4.0",
  "interfaces": [{ "name": "eth0", "sandbox": "$CNI_NETNS" }],
  "ips": [{ "version": "4", "address": "192.0.2.2/24", "interface": 0 }]
}`;

const PLUGIN = `#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" != ADD ] || cat <<END
${ANSWER}
END
`;

/**
 * Puts the plugin and its configuration into a folder; for `bin_dir` and `conf_dir` of CRI's `cni`
 * table.
 */
export function writeCniPlugin(folder: string): void {
  mkdirSync(folder);
  for (const name of ['nothing', 'loopback']) writeFileSync(join(folder, name), PLUGIN, { mode: 0o755 });
  const config = { cniVersion: '0.4.0', name: 'no-network', plugins: [{ type: 'nothing' }] };
  writeFileSync(join(folder, '10-nothing.conflist'), JSON.stringify(config));
}
