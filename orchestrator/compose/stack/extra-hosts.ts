import { z } from 'zod'
import { InvalidInput } from '../../../common/errors.ts'
import type { ServiceInput } from '../../../common/service-spec.ts'
import { given, isList, type JsonMap, mapOf, textOf, textsOf } from './reading.ts'

export type ExtraHost = NonNullable<ServiceInput['hosts']>[number]

const address = z.union([z.ipv4(), z.ipv6()])

/** `extra_hosts` of a service: `NAME=ADDRESS` or `NAME:ADDRESS`, or a map of names to one address or several. */
export function extraHostsOfService(service: JsonMap, key: string): ExtraHost[] {
  const value = given(service, 'extra_hosts')
  if (value === undefined) return []
  const at = `${key}.extra_hosts`
  if (isList(value)) {
    return value.map((item, index) => {
      const [, name = '', text = ''] = /^([^:=]+)[:=](.+)$/s.exec(textOf(item, `${at}[${index}]`)) ?? []
      return hostOf(name, text, `${at}[${index}]`)
    })
  }
  return Object.entries(mapOf(value, at)).flatMap(([name, addresses]) =>
    textsOf(addresses, `${at}.${name}`).map(({ text, key: where }) => hostOf(name, text, where)),
  )
}

/** An IPv6 address may stand in brackets. */
function hostOf(name: string, text: string, key: string): ExtraHost {
  if (text === 'host-gateway') throw new InvalidInput(key, 'host-gateway is refused: the host is out of reach')
  const bare = /^\[(.*)\]$/s.exec(text)?.[1] ?? text
  if (!/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$/.test(name) || !address.safeParse(bare).success) {
    throw new InvalidInput(key, 'expected a name and an address, such as db=fd00::1')
  }
  return { name, address: bare }
}
