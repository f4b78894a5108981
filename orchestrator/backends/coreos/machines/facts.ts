import { OrchestratorError } from '../../../../common/errors.ts'
import type { MachineFacts, MachineWay } from '../../../domain/machine.ts'
import { ask } from './ask.ts'
import type { Shell } from './shell.ts'

/** Prints five lines and then the units that failed; os-release(5), systemctl(1). */
const ASK = `cat /proc/sys/kernel/random/boot_id
systemctl is-system-running || :
. /etc/os-release
printf '%s\\n%s\\n' "\${PRETTY_NAME:-\${NAME:-Linux}}" "\${OSTREE_VERSION:-\${VERSION_ID:-}}"
systemctl list-units --failed --plain --no-legend --full | cut -d ' ' -f 1 | head -n 20`

/** Characters of what a machine says that are kept. */
const MOST = 200

/** What a machine tells of itself. @throws HostUnreachable, OrchestratorError `machine-odd`, `host-key-changed` */
export async function factsOf(
  shell: Shell,
  machine: MachineWay,
  now: number,
  stop: AbortSignal,
): Promise<MachineFacts> {
  const { code, out, err } = await ask(shell, machine, ['sh', '-c', ASK], stop)
  const [boot = '', health = '', system = '', version = '', ...failed] = out.trimEnd().split('\n')
  if (code !== 0 || !/^[0-9a-f-]{36}$/.test(boot)) {
    const said = err.trim().slice(0, MOST) || `it answered with exit code ${code}`
    throw new OrchestratorError('machine-odd', `${machine.name} is no machine with systemd that we can use: ${said}`)
  }
  return {
    at: now,
    boot,
    system: system.slice(0, MOST),
    version: version.slice(0, MOST),
    health: health.slice(0, 32),
    failed: failed.filter((name) => name !== '').map((name) => name.slice(0, MOST)),
  }
}
