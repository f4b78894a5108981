import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './command.ts'
import type { Say } from './engine.ts'
import { CACHE_DIRECTORY } from './places.ts'

/** What the disk of a new machine holds. */
export interface MachineImage {
  /** Debian's; `bookworm` unless told: systemd 252, podman 4.3. `trixie` has systemd 257 and podman with Quadlet. */
  readonly suite?: 'bookworm' | 'trixie'
  /** Debian packages beside systemd, sshd and what they need; {@link MACHINE_PACKAGES} unless told. */
  readonly packages?: readonly string[]
}

/** The one image of ordinary tests has all that any of them needs: each further one costs half a minute and 600 MB. */
export const MACHINE_PACKAGES: readonly string[] = [
  ...['podman', 'docker.io', 'iptables', 'etcd-server', 'etcd-client', 'cloud-init', 'sudo'],
]

const BASE_PACKAGES = [
  ...['systemd', 'systemd-sysv', 'dbus', 'openssh-server', 'iproute2', 'iputils-ping', 'procps', 'netbase', 'kmod'],
  ...['ca-certificates', 'curl', 'nftables'],
]

/** Control groups of v1 are mounted read-only in a machine; the engines need them writable, each by itself. */
const WRITABLE_CGROUPS = `#!/bin/sh
for c in /sys/fs/cgroup /sys/fs/cgroup/*; do mountpoint -q $c && mount -o remount,bind,rw $c; done
exit 0
`

/** Run by mmdebstrap with the new root as $1. Services of the engines and of etcd wait until a test enables them. */
const CUSTOMIZE = `set -eu
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id "$1"/etc/resolv.conf
touch "$1"/etc/machine-id
printf '[Unit]\\nDescription=Makes control groups writable\\nDefaultDependencies=no\\nBefore=sysinit.target\\n[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/usr/local/sbin/writable-cgroups\\n[Install]\\nWantedBy=sysinit.target\\n' >"$1"/etc/systemd/system/writable-cgroups.service
cat >"$1"/usr/local/sbin/writable-cgroups <<'E'
${WRITABLE_CGROUPS}E
chmod 755 "$1"/usr/local/sbin/writable-cgroups
mkdir -p "$1"/etc/ssh/sshd_config.d "$1"/etc/selinux/none/contexts/files
printf 'PermitRootLogin prohibit-password\\nPasswordAuthentication no\\nAuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys.d/ignition\\nUsePAM no\\n' >"$1"/etc/ssh/sshd_config.d/lab.conf
# Who wants it takes this file away.
mkdir -p "$1"/etc/cloud
touch "$1"/etc/cloud/cloud-init.disabled
# Ignition asks for SELinux labels: an empty policy has none.
printf 'SELINUX=disabled\\nSELINUXTYPE=none\\n' >"$1"/etc/selinux/config
: >"$1"/etc/selinux/none/contexts/files/file_contexts
chroot "$1" systemctl --quiet enable writable-cgroups.service ssh.service
for unit in docker.service docker.socket containerd.service etcd.service podman.service podman.socket podman-auto-update.timer podman-restart.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer man-db.timer; do
  chroot "$1" systemctl --quiet disable "$unit" 2>/dev/null || true
done`

/**
 * The folder with the root file system of machines, made where it is not in the cache yet.
 * @throws LabError with what mmdebstrap said
 */
export async function machineImage(image: MachineImage, say: Say, signal?: AbortSignal): Promise<string> {
  const suite = image.suite ?? 'bookworm'
  const packages = [...BASE_PACKAGES, ...(image.packages ?? MACHINE_PACKAGES)].sort()
  const recipe = createHash('sha256')
    .update(JSON.stringify([suite, packages, CUSTOMIZE]))
    .digest('hex')
    .slice(0, 12)
  const folder = join(CACHE_DIRECTORY, 'machines')
  const root = join(folder, `${suite}-${recipe}`)
  if (existsSync(root)) return root
  const began = performance.now()
  say(`making the disk of machines with mmdebstrap, once (half a minute, ${suite}) …`)
  mkdirSync(folder, { recursive: true })
  removeBroken(folder)
  const partial = `${root}.${process.pid}.partial`
  try {
    await run(
      'mmdebstrap',
      [
        ...['--quiet', '--variant=minbase', `--include=${packages.join(',')}`],
        ...['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*'].map((p) => `--dpkgopt=path-exclude=${p}`),
        `--customize-hook=sh -c '${CUSTOMIZE.replaceAll("'", "'\\''")}' sh "$1"`,
        ...[suite, partial],
      ],
      { timeoutMs: 600_000, signal },
    )
    renameSync(partial, root)
  } catch (error) {
    rmSync(partial, { recursive: true, force: true })
    if (!existsSync(root)) throw error // else another lab made it meanwhile
  }
  say(`made the disk of machines in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return root
}

/** What a run left that was killed while it made one. */
function removeBroken(folder: string): void {
  for (const name of readdirSync(folder)) {
    const pid = /\.(\d+)\.partial$/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(folder, name), { recursive: true, force: true })
  }
}
