import { InvalidInput } from '../../../common/errors.ts'
import type { Json } from '../../domain/template.ts'
import { fieldsOf, given, integerOf, isList, isMap, type JsonMap, listOf, type Remarks, scalarOf } from './reading.ts'

/** Ports that a container listens at. */
export interface ContainerPorts {
  readonly first: number
  /** The last of the range; the same as `first` for one port. */
  readonly last: number
  readonly protocol: 'tcp' | 'udp'
}

/** Where nobody wants remarks. */
const SILENT: Remarks = { note: () => {}, weaken: () => {} }

/**
 * The ports of a service that others know of, in the order of the file: `ports`, then `expose`. A service's firewall has no
 * part in it: its owner reaches every port of the entry, and services reach each other on their networks.
 */
export function portsOfService(
  service: JsonMap,
  key: string,
  isEntry: boolean,
  remarks: Remarks = SILENT,
): readonly ContainerPorts[] {
  const [ports, expose] = [given(service, 'ports'), given(service, 'expose')]
  const published = ports === undefined ? [] : listOf(ports, `${key}.ports`)
  if (published.length > 0 && !isEntry) {
    remarks.note(
      `${key}.ports`,
      'clients reach the entry alone: these are open to the other services of the instance only',
    )
  }
  const heard = isEntry ? remarks : SILENT
  const exposed = expose === undefined ? [] : listOf(expose, `${key}.expose`)
  return [
    ...published.map((item, index) => publishedPort(item, `${key}.ports[${index}]`, heard)),
    ...exposed.map((item, index) => exposedPort(item, `${key}.expose[${index}]`)),
  ]
}

/** The port at which an entry answers when its template does not say: the first for TCP; null: it has none. */
export function defaultPort(ports: readonly ContainerPorts[]): number | null {
  return ports.find(({ protocol }) => protocol === 'tcp')?.first ?? null
}

function publishedPort(item: Json, key: string, remarks: Remarks): ContainerPorts {
  return isMap(item) ? longPort(item, key, remarks) : shortPort(scalarOf(item, key), key, remarks)
}

/** `[[HOST_IP:][PUBLISHED]:]CONTAINER[/PROTOCOL]`; an IPv6 address may stand in brackets. */
function shortPort(text: string, key: string, remarks: Remarks): ContainerPorts {
  const [, before = '', container = '', protocol] = /^(?:(.*):)?([^:/]+)(?:\/([^/]*))?$/s.exec(text) ?? []
  if (container === '') throw new InvalidInput(key, 'expected a port such as 80, 8080:80 or 53:53/udp')
  const ports = { ...rangeOf(container, key), protocol: protocolOf(protocol, key) }
  const [, address, published = ''] = /^(?:(.*):)?([^:\]]*)$/s.exec(before) ?? []
  if (address !== undefined) checkAddress(address, key)
  const range = published === '' ? undefined : rangeOf(published, key)
  // Compose takes one port of a range of the machine for a single port of a container; else both are as long.
  if (range && ports.last > ports.first && range.last - range.first !== ports.last - ports.first) {
    throw new InvalidInput(key, 'expected two ranges of the same length')
  }
  noteOthers({ ports, published: range, address }, key, remarks)
  return ports
}

function longPort(item: Json, key: string, remarks: Remarks): ContainerPorts {
  const fields = fieldsOf(item, key, ['target', 'published', 'protocol', 'host_ip', 'mode', 'name', 'app_protocol'])
  const target = integerOf(given(fields, 'target') ?? null, `${key}.target`, 1, 65535)
  const [protocol, published, address] = [
    given(fields, 'protocol'),
    given(fields, 'published'),
    given(fields, 'host_ip'),
  ]
  const mode = given(fields, 'mode')
  if (mode !== undefined && mode !== 'ingress' && mode !== 'host') {
    throw new InvalidInput(`${key}.mode`, 'expected ingress or host')
  }
  const text = protocol === undefined ? undefined : scalarOf(protocol, `${key}.protocol`)
  const ports = { first: target, last: target, protocol: protocolOf(text, `${key}.protocol`) }
  const wanted = published === undefined ? '' : scalarOf(published, `${key}.published`)
  const range = wanted === '' ? undefined : rangeOf(wanted, `${key}.published`)
  const where = address === undefined ? undefined : scalarOf(address, `${key}.host_ip`)
  if (where !== undefined) checkAddress(where, `${key}.host_ip`)
  noteOthers({ ports, published: range, address: where }, key, remarks)
  return ports
}

function noteOthers(
  {
    ports,
    published,
    address,
  }: { ports: ContainerPorts; published: { first: number } | undefined; address: string | undefined },
  key: string,
  remarks: Remarks,
): void {
  const own = "the instance's own address"
  if (published && published.first !== ports.first) {
    remarks.note(key, `port ${published.first} is not opened: clients reach port ${ports.first} on ${own}`)
  }
  if (address !== undefined && address !== '') {
    remarks.note(key, `${address} has no meaning here: clients reach port ${ports.first} on ${own}`)
  }
  if (ports.protocol === 'udp') {
    remarks.note(key, 'a UDP port is open to the client, but does not tell whether the instance is reachable')
  }
}

function exposedPort(item: Json, key: string): ContainerPorts {
  const [, container = '', protocol] = /^([^/]*)(?:\/([^/]*))?$/s.exec(scalarOf(item, key)) ?? []
  return { ...rangeOf(container, key), protocol: protocolOf(protocol, key) }
}

function rangeOf(text: string, key: string): { first: number; last: number } {
  const [, from = '', to = from] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? []
  const [first, last] = [Number(from), Number(to)]
  if (from === '' || first < 1 || last > 65535 || last < first) {
    throw new InvalidInput(key, 'expected a port from 1 to 65535, or a range such as 8000-8005')
  }
  return { first, last }
}

function protocolOf(text: string | undefined, key: string): 'tcp' | 'udp' {
  const protocol = (text ?? 'tcp').toLowerCase()
  if (protocol !== 'tcp' && protocol !== 'udp') throw new InvalidInput(key, 'expected the protocol tcp or udp')
  return protocol
}

function checkAddress(address: string, key: string): void {
  if (!/^(\[[0-9a-f:.]+\]|[0-9a-f:.]+)$/i.test(address)) {
    throw new InvalidInput(key, 'expected a port such as 80, 8080:80 or 127.0.0.1:8080:80')
  }
}

/** Whether a service says `ports`: the one that does is the entry when the template names none. */
export function hasPorts(service: JsonMap): boolean {
  const ports = given(service, 'ports')
  return isList(ports) && ports.length > 0
}
