import type { ContentUnit, MachineContent } from './config-content.ts'

/** The newest stable version of the specification that all of Fedora CoreOS, Flatcar and Ignition 2.14 take. */
export const IGNITION_VERSION = '3.3.0'

/** A machine's content as Ignition JSON. Source: "Configuration Specification v3.3.0" of Ignition. */
export function ignition(content: MachineContent): string {
  const files = content.files.map(({ path, mode, owner, bytes }) => ignitionFile(path, mode, owner, bytes))
  if (content.hostKey !== null) {
    const key = '/etc/ssh/ssh_host_ed25519_key'
    files.push(ignitionFile(key, 0o600, 'root', Buffer.from(content.hostKey.secret)))
    files.push(ignitionFile(`${key}.pub`, 0o644, 'root', Buffer.from(content.hostKey.open)))
  }
  const written = {
    ignition: { version: IGNITION_VERSION },
    passwd: {
      users: content.users.map(({ name, groups, keys, passwordHash }) => ({
        name,
        ...(groups.length === 0 ? {} : { groups }),
        ...(keys.length === 0 ? {} : { sshAuthorizedKeys: keys }),
        ...(passwordHash === null ? {} : { passwordHash }),
      })),
    },
    storage: {
      ...(content.disks.length === 0
        ? {}
        : {
            filesystems: content.disks.map(({ device, filesystem, label, wipe }) => ({
              device,
              format: filesystem,
              label,
              wipeFilesystem: wipe,
            })),
          }),
      files,
    },
    systemd: { units: content.units.map(ignitionUnit) },
  }
  return `${JSON.stringify(written, null, 2)}\n`
}

function ignitionFile(path: string, mode: number, owner: string, bytes: Buffer) {
  const source = `data:;base64,${bytes.toString('base64')}`
  return { path, mode, overwrite: true, user: { name: owner }, contents: { source } }
}

function ignitionUnit({ name, enabled, text, dropIns }: ContentUnit) {
  const dropins = Object.entries(dropIns).map(([file, contents]) => ({ name: file, contents }))
  return {
    name,
    ...(enabled ? { enabled } : {}),
    ...(text === null ? {} : { contents: text }),
    ...(dropins.length === 0 ? {} : { dropins }),
  }
}
