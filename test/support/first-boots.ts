import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { quoted } from '../../lab/processes.ts'

/** Where Debian's package puts Ignition itself, which is made for an initramfs. */
const IGNITION = '/usr/lib/dracut/modules.d/30ignition/ignition'

/** What reads a machine's configuration at its first boot. */
export type BootProgram = 'ignition' | 'cloud-init'

/** What a cloud's image would bring: where its data come from, and that the lab's own network, user and keys stay. */
const CLOUD_INIT_OF_THE_LAB = JSON.stringify({
  datasource_list: ['NoCloud'],
  network: { config: 'disabled' },
  ssh_deletekeys: false,
  disable_root: false,
  locale: 'C.UTF-8',
})

/**
 * Configures machines of the lab at their first boot by Ignition or cloud-init themselves, from files that are written before
 * they are powered on; a machine without such a file boots as it is.
 */
export class FirstBoots {
  readonly #folder = mkdtempSync('/tmp/orchestrator-first-boots-')

  constructor() {
    // Ignition has files labelled for SELinux, which no machine of the lab has.
    mkdirSync(join(this.#folder, 'bin'))
    writeFileSync(join(this.#folder, 'bin', 'setfiles'), '#!/bin/sh\nexit 0\n')
    chmodSync(join(this.#folder, 'bin', 'setfiles'), 0o755)
  }

  /** For `MachinesOptions.firstBoot`. */
  readonly script = (machine: { readonly name: string }): string =>
    `${this.#ignition(machine.name)}\n${this.#cloudInit(machine.name)}`

  write(name: string, data: string, program: BootProgram = 'ignition'): void {
    writeFileSync(join(this.#folder, `${name}.${program}`), data)
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #ignition(name: string): string {
    const file = (kind: string) => quoted(join(this.#folder, `${name}.${kind}`))
    const flags = `-platform file -root "$ROOT" -config-cache ${file('cache')} -state-file ${file('state')} -neednet ${file('net')} -log-to-stdout`
    return `if [ -e ${file('ignition')} ]; then
mount -t tmpfs tmpfs /run/lock 2>/dev/null || :
for stage in fetch files; do
PATH=${quoted(join(this.#folder, 'bin'))}:$PATH IGNITION_CONFIG_FILE=${file('ignition')} ${IGNITION} ${flags} -stage $stage
done
sed -n 's/^enable //p' "$ROOT"/etc/systemd/system-preset/20-ignition.preset | xargs -r chroot "$ROOT" systemctl preset
fi`
  }

  #cloudInit(name: string): string {
    const data = quoted(join(this.#folder, `${name}.cloud-init`))
    return `if [ -e ${data} ]; then
S=$ROOT/var/lib/cloud/seed/nocloud
mkdir -p $S
cat ${data} >$S/user-data
echo ${quoted(`instance-id: ${name}`)} >$S/meta-data
rm $ROOT/etc/cloud/cloud-init.disabled
echo ${quoted(CLOUD_INIT_OF_THE_LAB)} >$ROOT/etc/cloud/cloud.cfg.d/99-lab.cfg
fi`
  }
}
