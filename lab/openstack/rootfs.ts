import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../command.ts'
import type { Say } from '../engine.ts'
import { CACHE_DIRECTORY } from '../places.ts'

const SUITE = 'bookworm'
/** OpenStack Zed, as Debian 12 has it: one of each service, with what they stand on. */
const PACKAGES = [
  ...['systemd', 'systemd-sysv', 'dbus', 'iproute2', 'procps', 'netbase', 'kmod', 'ca-certificates'],
  ...['iptables', 'ebtables', 'ipset', 'conntrack'],
  ...['rabbitmq-server', 'mariadb-server', 'memcached', 'python3-pymysql'],
  ...['keystone', 'glance', 'placement-api', 'neutron-server', 'neutron-plugin-ml2', 'neutron-linuxbridge-agent'],
  ...['nova-api', 'nova-conductor', 'nova-scheduler', 'nova-compute'],
  // Never runs there: its `cloud-init schema` judges our boot data.
  'cloud-init',
]
/** What the packages would start at boot and setup.sh starts itself, in its order. */
const LATER = [
  ...['keystone', 'glance-api', 'placement-api', 'neutron-api', 'neutron-rpc-server', 'neutron-linuxbridge-agent'],
  ...['nova-api', 'nova-api-metadata', 'nova-conductor', 'nova-scheduler', 'nova-compute', 'haproxy', 'memcached'],
  ...['libvirtd.service', 'libvirt-guests', 'libvirtd.socket', 'libvirtd-ro.socket', 'libvirtd-admin.socket'],
  ...['virtlogd.socket', 'virtlockd.socket'],
]
const CUSTOMIZE = [
  // One worker of each is enough for one user, and what a machine with 2 GiB can bear.
  `for f in "$1"/etc/{keystone,glance,placement,nova,neutron}/*uwsgi.ini; do
     sed -i -e 's/^processes = .*/processes = 1/' -e 's/^threads = .*/threads = 8/' "$f"; done`,
  `for unit in ${LATER.join(' ')}; do chroot "$1" systemctl --quiet disable "$unit" || true; done`,
  'touch "$1"/etc/cloud/cloud-init.disabled',
]
/** Milliseconds: 110 s on a quiet machine with two cores. */
const PATIENCE_MS = 1_200_000

/** The root file system of a machine with all of OpenStack's services, not yet set up: from the cache, or made (1.9 GB). */
export async function openStackRootfs(say: Say, signal?: AbortSignal): Promise<string> {
  const recipe = createHash('sha256')
    .update(JSON.stringify([SUITE, PACKAGES, LATER, CUSTOMIZE]))
    .digest('hex')
    .slice(0, 12)
  const folder = join(CACHE_DIRECTORY, 'openstack')
  const rootfs = join(folder, recipe)
  if (existsSync(rootfs)) return rootfs
  const began = performance.now()
  say('making a machine with OpenStack from Debian packages, once (minutes) …')
  mkdirSync(folder, { recursive: true })
  for (const old of readdirSync(folder)) rmSync(join(folder, old), { recursive: true, force: true })
  const partial = `${rootfs}.partial`
  await run(
    'mmdebstrap',
    [
      ...['--quiet', '--variant=minbase', `--include=${PACKAGES.join(',')}`],
      ...['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*'].map((p) => `--dpkgopt=path-exclude=${p}`),
      ...CUSTOMIZE.map((script) => `--customize-hook=bash -ec ${quotedForShell(script)} hook "$1"`),
      ...[SUITE, partial],
    ],
    { timeoutMs: PATIENCE_MS, signal },
  )
  renameSync(partial, rootfs)
  say(`made the machine with OpenStack in ${((performance.now() - began) / 1000).toFixed(0)} s`)
  return rootfs
}

function quotedForShell(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
