import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import type { Json } from '../../domain/template.ts'
import { fieldsOf, given, isMap, type JsonMap, listOf, pathOf, type Remarks, textOf } from './reading.ts'

export type Device = NonNullable<ServiceInput['devices']>[number]

/** Devices that show nothing of the host: each opening of one is a tunnel or a file system of its own. */
const HARMLESS = ['/dev/net/tun', '/dev/fuse']

/** `devices` of a service. */
export function devicesOfService(service: JsonMap, key: string, remarks: Remarks): Device[] {
  const value = given(service, 'devices')
  return (value === undefined ? [] : listOf(value, `${key}.devices`)).map((item, index) => {
    const at = `${key}.devices[${index}]`
    const device = isMap(item) ? longDevice(item, at) : shortDevice(textOf(item, at), at)
    if (!HARMLESS.includes(device.host)) remarks.weaken(at)
    return device
  })
}

/** `HOST[:CONTAINER[:PERMISSIONS]]` */
function shortDevice(text: string, key: string): Device {
  const [host = '', container = host, permissions = 'rwm', ...more] = text.split(':')
  if (!host.startsWith('/') && text.includes('=')) {
    throw new InvalidInput(key, 'devices of CDI are not supported yet: expected a path such as /dev/net/tun')
  }
  if (more.length > 0) throw new InvalidInput(key, 'expected HOST, HOST:CONTAINER or HOST:CONTAINER:PERMISSIONS')
  return { host: pathOf(host, key), container: pathOf(container, key), permissions: permissionsOf(permissions, key) }
}

function longDevice(item: Json, key: string): Device {
  const fields = fieldsOf(item, key, ['source', 'target', 'permissions'])
  const host = textOf(given(fields, 'source') ?? null, `${key}.source`)
  const container = textOf(given(fields, 'target') ?? host, `${key}.target`)
  const permissions = textOf(given(fields, 'permissions') ?? 'rwm', `${key}.permissions`)
  return {
    host: pathOf(host, `${key}.source`),
    container: pathOf(container, `${key}.target`),
    permissions: permissionsOf(permissions, `${key}.permissions`),
  }
}

function permissionsOf(text: string, key: string): string {
  if (!/^(?!.*(.).*\1)[rwm]{1,3}$/.test(text))
    throw new InvalidInput(key, 'expected permissions of r, w and m, each once')
  return text
}
