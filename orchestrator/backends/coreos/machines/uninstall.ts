import { OrchestratorError } from '../../../../common/errors.ts'
import type { MachineWay } from '../../../domain/machine.ts'
import { NETWORK_UNIT, PLACES, SANDBOX_IMAGE } from '../names.ts'
import { ask } from './ask.ts'
import type { Shell } from './shell.ts'

/** What the installation of unionize made on a machine, in reverse; nothing where instances of another orchestrator remain. */
const UNINSTALL = `set -u
for unit in ${PLACES.units}/orc-i-*; do [ ! -e "$unit" ] || exit 0; done
systemctl --quiet disable --now ${NETWORK_UNIT} 2>/dev/null
rm -f ${PLACES.units}/${NETWORK_UNIT} ${PLACES.settings} /etc/systemd/network/05-orc.network
systemctl daemon-reload
for engine in podman docker; do
  if command -v $engine >/dev/null; then $engine image rm ${SANDBOX_IMAGE} >/dev/null 2>&1; fi
done
rm -rf ${PLACES.program} ${PLACES.kept} ${PLACES.memory}
[ ! -e ${PLACES.program} ]`
const UNINSTALL_MS = 60_000

/** Takes away all that was installed on a machine. Gone already is success. @throws HostUnreachable, OrchestratorError */
export async function uninstall(shell: Shell, machine: MachineWay, stop: AbortSignal): Promise<void> {
  const { code, err } = await ask(shell, machine, ['sh', '-c', UNINSTALL], stop, { withinMs: UNINSTALL_MS })
  if (code === 0) return
  const why = err.trim().slice(0, 300) || `exit code ${code}`
  throw new OrchestratorError('machine-failed', `what was installed on ${machine.name} cannot be removed: ${why}`)
}
