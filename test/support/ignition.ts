import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { quoted } from '../../lab/processes.ts'

/** Where Debian's package puts Ignition itself, which is made for an initramfs. */
const IGNITION = '/usr/lib/dracut/modules.d/30ignition/ignition'

/**
 * Configures machines of the lab at their first boot by Ignition itself, from files that are written before they are powered
 * on; a machine without such a file boots as it is.
 */
export class FirstBoots {
  readonly #folder = mkdtempSync('/tmp/orchestrator-ignition-')

  constructor() {
    // Ignition has files labelled for SELinux, which no machine of the lab has.
    mkdirSync(join(this.#folder, 'bin'))
    writeFileSync(join(this.#folder, 'bin', 'setfiles'), '#!/bin/sh\nexit 0\n')
    chmodSync(join(this.#folder, 'bin', 'setfiles'), 0o755)
  }

  /** For `MachinesOptions.firstBoot`. */
  readonly script = ({ name }: { readonly name: string }): string => {
    const file = (kind: string) => quoted(join(this.#folder, `${name}.${kind}`))
    const flags = `-platform file -root "$ROOT" -config-cache ${file('cache')} -state-file ${file('state')} -neednet ${file('net')} -log-to-stdout`
    return `if [ -e ${file('ign')} ]; then
mount -t tmpfs tmpfs /run/lock 2>/dev/null || :
for stage in fetch files; do
PATH=${quoted(join(this.#folder, 'bin'))}:$PATH IGNITION_CONFIG_FILE=${file('ign')} ${IGNITION} ${flags} -stage $stage
done
sed -n 's/^enable //p' "$ROOT"/etc/systemd/system-preset/20-ignition.preset | xargs -r chroot "$ROOT" systemctl preset
fi`
  }

  write(name: string, ignition: string): void {
    writeFileSync(join(this.#folder, `${name}.ign`), ignition)
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
