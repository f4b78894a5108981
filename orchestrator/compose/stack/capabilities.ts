import { InvalidInput } from '../../../common/errors.ts'
import { given, type JsonMap, type Remarks, textsOf } from './reading.ts'

/** The least capabilities with which common images (a web server, an SSH server) still start as root. */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'KILL',
  'NET_BIND_SERVICE',
  'SETGID',
  'SETUID',
  'SYS_CHROOT',
]

/**
 * Capabilities that reach no further than the container's own namespaces: besides those above, what Docker gives everybody, what a
 * VPN needs, and tracing of its own processes. capabilities(7) has them all; the others are for templates that are trusted.
 */
const HARMLESS: readonly string[] = [
  ...DEFAULT_CAPABILITIES,
  'AUDIT_WRITE',
  'FSETID',
  'IPC_LOCK',
  'IPC_OWNER',
  'LEASE',
  'MKNOD',
  'NET_ADMIN',
  'NET_BROADCAST',
  'NET_RAW',
  'SETFCAP',
  'SETPCAP',
  'SYS_PTRACE',
]

/** All that Linux 6.x has (include/uapi/linux/capability.h). */
const ALL: readonly string[] = [
  ...HARMLESS,
  'AUDIT_CONTROL',
  'AUDIT_READ',
  'BLOCK_SUSPEND',
  'BPF',
  'CHECKPOINT_RESTORE',
  'DAC_READ_SEARCH',
  'LINUX_IMMUTABLE',
  'MAC_ADMIN',
  'MAC_OVERRIDE',
  'PERFMON',
  'SYSLOG',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_MODULE',
  'SYS_NICE',
  'SYS_PACCT',
  'SYS_RAWIO',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'WAKE_ALARM',
]

/**
 * The capabilities that a service keeps: the short list, less `cap_drop`, and `cap_add` on top, as Docker does with its own
 * list: what is dropped and added is there; `ALL` dropped leaves what is added; `ALL` added leaves all that is not dropped.
 */
export function capabilitiesOfService(service: JsonMap, key: string, remarks: Remarks): string[] {
  const added = namesOf(service, key, 'cap_add')
  const dropped = namesOf(service, key, 'cap_drop').map(({ name }) => name)
  for (const { name, key: at } of added) if (!HARMLESS.includes(name)) remarks.weaken(at)
  const names = added.map(({ name }) => name)
  if (dropped.includes('ALL')) return sorted(names.flatMap((name) => (name === 'ALL' ? ALL : [name])))
  if (names.includes('ALL')) return sorted(ALL.filter((name) => !dropped.includes(name)))
  return sorted([...DEFAULT_CAPABILITIES.filter((name) => !dropped.includes(name)), ...names])
}

function namesOf(
  service: JsonMap,
  key: string,
  field: string,
): readonly { readonly name: string; readonly key: string }[] {
  const value = given(service, field)
  return (value === undefined ? [] : textsOf(value, `${key}.${field}`)).map(({ text, key: at }) => {
    const name = text.toUpperCase().replace(/^CAP_/, '')
    if (name !== 'ALL' && !ALL.includes(name)) throw new InvalidInput(at, `there is no capability ${text} in Linux`)
    return { name, key: at }
  })
}

function sorted(names: readonly string[]): string[] {
  return [...new Set(names)].sort()
}
