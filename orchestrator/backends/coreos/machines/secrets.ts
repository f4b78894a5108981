import { InvalidInput, OrchestratorError } from '../../../../common/errors.ts'
import type { Machine } from '../../../domain/machine.ts'
import { ask } from './ask.ts'
import { SECRETS_DIRECTORY, SECRETS_TARGET } from './secret-places.ts'
import type { Shell } from './shell.ts'

/** Bytes of one secret at most. */
export const MOST_SECRET_BYTES = 32 * 1024

/**
 * $1 is the name; the content comes by standard input, so it stands in no process list and no log. Another name first, then
 * renamed: nobody sees half of it. Prints the boot that it was written in. `tmpfs`: it must not get to a disk.
 */
const WRITE = `set -eu
umask 077
kind=$(stat -f -c %T /run)
case $kind in tmpfs | ramfs) ;; *) echo "/run is $kind, not in memory" >&2; exit 65 ;; esac
mkdir -p -m 700 ${SECRETS_DIRECTORY}
new="${SECRETS_DIRECTORY}/.new-$$"
trap 'rm -f "$new"' EXIT
cat >"$new"
chown 0:0 "$new"
mv -f "$new" "${SECRETS_DIRECTORY}/$1"
cat /proc/sys/kernel/random/boot_id`

/** Services that wait are started when the last one has arrived; machines without any lack the target. */
const START = `if systemctl cat ${SECRETS_TARGET} >/dev/null 2>&1; then systemctl restart --no-block ${SECRETS_TARGET}; fi`

/**
 * Writes a secret on a machine, for root alone. It is kept nowhere else. @returns the boot that it lasts for
 * @throws InvalidInput, HostUnreachable, OrchestratorError `secret-refused`
 */
export async function writeSecret(
  shell: Shell,
  machine: Machine,
  secret: { readonly name: string; readonly content: Buffer },
  stop: AbortSignal,
): Promise<string> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(secret.name)) {
    throw new InvalidInput('secret', 'expected a name of letters, digits, . _ and -, at most 128 characters')
  }
  if (secret.content.length > MOST_SECRET_BYTES) {
    throw new InvalidInput('content', `expected at most ${MOST_SECRET_BYTES} bytes`)
  }
  const input = secret.content
  const { code, out, err } = await ask(shell, machine, ['sh', '-c', WRITE, 'sh', secret.name], stop, { input })
  if (code !== 0) {
    const why = err.trim().slice(0, 300) || `exit code ${code}`
    throw new OrchestratorError('secret-refused', `${machine.name} could not keep the secret ${secret.name}: ${why}`)
  }
  await ask(shell, machine, ['sh', '-c', START], stop)
  return out.trim()
}
