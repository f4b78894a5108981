import { stringify } from 'yaml'
import type { ContentFile, ContentUnit, MachineContent } from './config-content.ts'

/**
 * A machine's content as cloud-config, for Linux that is no CoreOS. Source: the module reference of cloud-init 22.4 (users and
 * groups, write files, disk setup, mounts, runcmd).
 */
export function cloudConfig(content: MachineContent): string {
  const { hostname, users, disks, hostKey } = content
  const files = [...content.files, ...content.units.flatMap(unitFiles)]
  const enabled = content.units.filter((unit) => unit.enabled).map(({ name }) => name)
  const mounted = new Set(disks.map(({ mount }) => mount))
  const written = {
    hostname,
    // sudo looks its host up: without it each call waits for a name server.
    manage_etc_hosts: 'localhost',
    users: users.map(({ name, groups, keys, passwordHash }) => ({
      name,
      ...(name === 'root' ? {} : { shell: '/bin/bash' }),
      ...(groups.length === 0 ? {} : { groups: groups.join(',') }),
      ...(keys.length === 0 ? {} : { ssh_authorized_keys: [...keys] }),
      ...(passwordHash === null ? {} : { hashed_passwd: passwordHash, lock_passwd: false }),
    })),
    ...(hostKey === null ? {} : { ssh_keys: { ed25519_private: hostKey.secret, ed25519_public: hostKey.open.trim() } }),
    ...(disks.length === 0
      ? {}
      : {
          fs_setup: disks.map(({ device, filesystem, label, wipe }) => ({
            device,
            filesystem,
            label,
            overwrite: wipe,
            // Without a partition: what is told is the device itself.
            partition: 'none',
          })),
        }),
    write_files: files.map(cloudFile),
    runcmd: [
      ...[...mounted].map((path) => ['mkdir', '-p', path]),
      ['systemctl', 'daemon-reload'],
      ...enabled.map((name) => ['systemctl', 'enable', '--now', name]),
    ],
  }
  return `#cloud-config\n${stringify(written)}`
}

function cloudFile({ path, mode, owner, bytes }: ContentFile) {
  return {
    path,
    permissions: `0${mode.toString(8)}`,
    owner: `${owner}:${owner}`,
    encoding: 'b64',
    content: bytes.toString('base64'),
    // Files are written before users are made, unless told so.
    ...(owner === 'root' ? {} : { defer: true }),
  }
}

function unitFiles({ name, text, dropIns }: ContentUnit): ContentFile[] {
  const folder = '/etc/systemd/system'
  const file = (path: string, contents: string) => ({ path, mode: 0o644, owner: 'root', bytes: Buffer.from(contents) })
  return [
    ...(text === null ? [] : [file(`${folder}/${name}`, text)]),
    ...Object.entries(dropIns).map(([dropIn, contents]) => file(`${folder}/${name}.d/${dropIn}`, contents)),
  ]
}
