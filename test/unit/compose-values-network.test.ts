import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ServiceInput } from '../../common/service-spec.ts'
import { defaultPort, hasPorts, portsOfService } from '../../orchestrator/compose/stack/ports.ts'
import type { Json } from '../../orchestrator/domain/template.ts'
import { assertRefused, assertWeb, plainService, readWeb, readWith, refusedAt } from '../support/compose-stacks.ts'

type Keys = { readonly [key: string]: Json }
const image = 'nginx'
const quiet = { note: () => {}, weaken: () => {} }

/** A stack of web and db. */
const two = (web: Keys, db: Keys, sections: Keys = {}) =>
  readWith({ services: { db: { image, ...db }, web: { image, ...web } }, ...sections })
const own = (name: string, change: Partial<ServiceInput> = {}) => plainService({ name, sandbox: 'own', ...change })

describe('the ports of a service', () => {
  const cases: [Json, number, number, 'tcp' | 'udp', boolean][] = [
    ['80', 80, 80, 'tcp', false],
    [80, 80, 80, 'tcp', false],
    ['80:80', 80, 80, 'tcp', false],
    ['8080:80', 80, 80, 'tcp', true],
    ['3000-3005', 3000, 3005, 'tcp', false],
    ['9090-9091:8080-8081', 8080, 8081, 'tcp', true],
    ['8000-9000:80', 80, 80, 'tcp', true],
    ['127.0.0.1:8001:8001', 8001, 8001, 'tcp', true],
    ['127.0.0.1::80', 80, 80, 'tcp', true],
    ['[::1]:80:80', 80, 80, 'tcp', true],
    ['::1:6000:6000', 6000, 6000, 'tcp', true],
    ['6060:6060/udp', 6060, 6060, 'udp', true],
    ['53/TCP', 53, 53, 'tcp', false],
    [{ target: 80 }, 80, 80, 'tcp', false],
    [
      { target: '80', published: '80', protocol: 'tcp', mode: 'host', name: 'web', app_protocol: 'http' },
      80,
      80,
      'tcp',
      false,
    ],
    [{ target: 80, published: 8080 }, 80, 80, 'tcp', true],
    [{ target: 80, published: '8083-9000', mode: 'ingress' }, 80, 80, 'tcp', true],
    [{ target: 53, protocol: 'udp' }, 53, 53, 'udp', true],
    [{ target: 80, host_ip: '127.0.0.1' }, 80, 80, 'tcp', true],
  ]
  for (const [port, first, last, protocol, noted] of cases) {
    it(`${JSON.stringify(port)} is ${first}-${last}/${protocol}${noted ? ', with a note' : ''}`, () => {
      const notes: string[] = []
      const remarks = { note: (key: string) => notes.push(key), weaken: () => {} }
      assert.deepEqual(portsOfService({ ports: [port] }, 'services.web', true, remarks), [{ first, last, protocol }])
      assert.deepEqual([...new Set(notes)], noted ? ['services.web.ports[0]'] : [])
    })
  }

  it('that differ from what is published are noted with both numbers', () => {
    const { notes } = readWeb({ ports: ['8080:80'] })
    assert.deepEqual(notes, [
      {
        key: 'services.web.ports[0]',
        message: "port 8080 is not opened: clients reach port 80 on the instance's own address",
      },
    ])
  })

  it('are noted where clients do not reach the service', () => {
    const { notes } = two({ ports: ['80'] }, { ports: ['5432:5432'] })
    assert.deepEqual(
      notes.map(({ key }) => key),
      ['services.db.ports'],
    )
  })

  it('tell where the entry answers: the first for TCP, also of expose', () => {
    const at = (keys: Keys) => defaultPort(portsOfService(keys, 'services.web', true, quiet))
    assert.equal(at({ ports: ['53:53/udp', '8080:80', '443'] }), 80)
    assert.equal(at({ expose: ['3000', '8000-8010/tcp'] }), 3000)
    assert.equal(at({ ports: ['81'], expose: [80] }), 81)
    assert.equal(at({ ports: ['53/udp'] }), null)
    assert.equal(at({}), null)
    assert.deepEqual(
      [hasPorts({ ports: ['80'] }), hasPorts({ ports: [] }), hasPorts({ expose: ['80'] }), hasPorts({})],
      [true, false, false, false],
    )
    assertWeb({ expose: ['3000', 8000, '8080-8085/udp'] }, {})
  })

  it('are refused at the exact key', () => {
    for (const port of [
      '',
      'http',
      '0',
      '65536',
      '80:',
      'a:80',
      '80/sctp',
      '1-2:3-5',
      '5-4',
      '-1',
      'host:1:2',
      '1:2:3:4:x',
      '80/tcp/udp',
      null,
      true,
    ]) {
      assertRefused({ ports: ['80', port] }, 'services.web.ports[1]', /expected/)
    }
    const long = (more: Keys, inside: string) =>
      assertRefused({ ports: [more] }, `services.web.ports[0].${inside}`, /./)
    long({ target: 0 }, 'target')
    long({ published: 80 }, 'target')
    long({ target: 80, protocol: 'sctp' }, 'protocol')
    long({ target: 80, mode: 'x' }, 'mode')
    long({ target: 80, published: 'x' }, 'published')
    long({ target: 80, host_ip: 'x' }, 'host_ip')
    long({ target: 80, other: 1 }, 'other')
    assertRefused({ ports: '80' }, 'services.web.ports', /a list/)
    assertRefused({ expose: ['80', 'x'] }, 'services.web.expose[1]', /a port/)
    assertRefused({ expose: ['80/x'] }, 'services.web.expose[0]', /tcp or udp/)
  })
})

describe('the networks of services', () => {
  it('without a word: the default one, the entry in the sandbox of the instance, the others each in its own', () => {
    const { services, networks } = two({}, {})
    const onDefault = { networks: { default: { aliases: [] } } }
    assert.deepEqual(services, [plainService(onDefault), own('db', onDefault)])
    assert.deepEqual(networks, { default: {} })
  })

  it('are none where a service would be alone on the default one', () => {
    assert.deepEqual(readWeb({}).networks, {})
    assert.deepEqual(two({}, { network_mode: 'none' }).networks, {})
    assert.deepEqual(two({}, { networks: ['back'] }, { networks: { back: {} } }).networks, { back: {} })
    const declared = readWeb({}, { networks: { default: null } })
    assert.deepEqual(declared.networks, { default: {} })
    assert.deepEqual(declared.services, [plainService({ networks: { default: { aliases: [] } } })])
  })

  it('are joined in the short and the long form', () => {
    const networks = { front: null, back: { driver: 'bridge', internal: true, enable_ipv6: true } }
    const read = two(
      { networks: ['front', 'back'] },
      { networks: { back: { aliases: ['sql', 'sql', 'data.local'] }, default: null } },
      { networks },
    )
    assert.deepEqual(read.services, [
      plainService({ networks: { front: { aliases: [] }, back: { aliases: [] } } }),
      own('db', { networks: { back: { aliases: ['sql', 'data.local'] }, default: { aliases: [] } } }),
    ])
    assert.deepEqual(read.networks, { back: {}, default: {}, front: {} })
    assert.deepEqual(read.notes, [])
    assert.deepEqual(two({ networks: [] }, { networks: {} }).networks, { default: {} })
  })

  it('that no service is on are not made', () => {
    assert.deepEqual(readWeb({}, { networks: { unused: {} } }).networks, {})
  })

  it('have an IPv6 subnet and addresses in it', () => {
    const networks = { back: { ipam: { config: [{ subnet: 'fd00:5::/64' }] } } }
    const read = two({ networks: ['back'] }, { networks: { back: { ipv6_address: 'fd00:5::10' } } }, { networks })
    assert.deepEqual(read.networks, { back: { prefix: 'fd00:5::/64' } })
    assert.deepEqual(read.services[1], own('db', { networks: { back: { aliases: [], address: 'fd00:5::10' } } }))
  })

  it('are IPv6 alone, which is noted where the file says IPv4', () => {
    const networks = { back: { ipam: { config: [{ subnet: '172.28.0.0/16' }, { subnet: 'fd00:5::/64' }] } } }
    const { networks: read, notes } = two(
      { networks: ['back'] },
      { networks: { back: { ipv4_address: '172.28.0.5' } } },
      { networks },
    )
    assert.deepEqual(read, { back: { prefix: 'fd00:5::/64' } })
    assert.deepEqual(notes.map(({ key }) => key).sort(), [
      'networks.back.ipam.config[0].subnet',
      'services.db.networks.back.ipv4_address',
    ])
  })

  it('are left by network_mode', () => {
    const shared = two({}, { network_mode: 'service:web' })
    assert.deepEqual(shared.services, [plainService(), plainService({ name: 'db' })])
    assert.deepEqual(two({}, { network_mode: 'none' }).services, [plainService(), own('db')])
    const mode =
      (network_mode: string, more: Keys = {}) =>
      () =>
        two({}, { network_mode, ...more })
    const key = 'services.db.network_mode'
    refusedAt(mode('host'), key, /no address of an instance/)
    for (const other of ['bridge', 'service:db', 'service:x', 'container:x', ''])
      refusedAt(mode(other), key, /expected none, or service:web/)
    refusedAt(mode('none', { networks: ['default'] }), key, /beside networks/)
    for (const other of ['none', 'service:web', 'service:db']) {
      refusedAt(() => two({ network_mode: other }, {}), 'services.web.network_mode', /clients reach the entry/)
    }
    refusedAt(() => two({ network_mode: 'host' }, {}), 'services.web.network_mode', /no address of an instance/)
  })

  it('know a service by its container_name, too', () => {
    const read = two({}, { container_name: 'sql' })
    assert.deepEqual(read.services[1]?.networks, { default: { aliases: ['sql'] } })
    assert.deepEqual(
      read.notes.map(({ key }) => key),
      ['services.db.container_name'],
    )
    assert.deepEqual(two({}, { container_name: 'db' }).services[1]?.networks, { default: { aliases: [] } })
    const odd = two({}, { container_name: 'my_Db' })
    assert.deepEqual(odd.services[1]?.networks, { default: { aliases: [] } })
    assert.match(odd.notes[1]?.message ?? '', /my_Db is not a host name/)
  })

  it('are refused at the exact key', () => {
    const web = (networks: Json, key: string, words: RegExp, more: Keys = { back: {} }) =>
      assertRefused({ networks }, `services.web.networks${key}`, words, { networks: more })
    web(['other'], '[0]', /there is no network other/)
    web({ other: null }, '.other', /there is no network other/)
    web('back', '', /a map/)
    web({ back: { aliases: ['Upper'] } }, '.back.aliases[0]', /host name/)
    web({ back: { aliases: Array.from({ length: 17 }, (_, n) => `a${n}`) } }, '.back.aliases', /./)
    web({ back: { ipv6_address: 'fd00:5::10' } }, '.back.ipv6_address', /whose prefix is given/)
    for (const field of ['mac_address', 'priority', 'link_local_ips', 'interface_name', 'driver_opts']) {
      web({ back: { [field]: 'x' } }, `.back.${field}`, /not supported/)
    }
    const subnet = (text: string) => ({ back: { ipam: { config: [{ subnet: text }] } } })
    const declared = (networks: Json, key: string, words: RegExp) =>
      assertRefused({ networks: ['back'] }, `networks.${key}`, words, { networks })
    web({ back: { ipv6_address: 'fd00:6::10' } }, '.back.ipv6_address', /expected an address of/, subnet('fd00:5::/64'))
    declared(subnet('2001:db8::/64'), 'back.ipam.config[0].subnet', /unique local/)
    declared(subnet('x'), 'back.ipam.config[0].subnet', /./)
    declared(
      { back: { ipam: { config: [{ subnet: 'fd00:5::/64' }, { subnet: 'fd00:6::/64' }] } } },
      'back.ipam.config[1].subnet',
      /one IPv6 subnet/,
    )
    declared({ back: { driver: 'overlay' } }, 'back.driver', /bridge/)
    declared({ back: { enable_ipv6: false } }, 'back.enable_ipv6', /are IPv6/)
    declared({ back: { internal: 'x' } }, 'back.internal', /true or false/)
    for (const field of ['external', 'name', 'labels', 'attachable', 'driver_opts', 'enable_ipv4']) {
      declared({ back: { [field]: true } }, `back.${field}`, /not supported/)
    }
    for (const field of ['gateway', 'ip_range', 'aux_addresses']) {
      declared({ back: { ipam: { config: [{ [field]: 'x' }] } } }, `back.ipam.config[0].${field}`, /not supported/)
    }
    declared({ Back: {}, back: {} }, 'Back', /expected a name/)
    const many = Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`n${n}`, {}]))
    assertRefused({ networks: Object.keys(many) }, 'networks', /at most 16/, { networks: many })
  })
})

describe('further names in /etc/hosts', () => {
  it('are a list or a map', () => {
    const hosts = [
      { name: 'a', address: '10.0.0.1' },
      { name: 'b', address: 'fd00::1' },
    ]
    assertWeb({ extra_hosts: ['a:10.0.0.1', 'b:fd00::1'] }, { hosts })
    assertWeb({ extra_hosts: ['a=10.0.0.1', 'b=[fd00::1]'] }, { hosts })
    assertWeb({ extra_hosts: { a: '10.0.0.1', b: ['fd00::1'] } }, { hosts })
    assertWeb(
      { extra_hosts: { a: ['10.0.0.1', '10.0.0.2'] } },
      { hosts: [hosts[0] ?? assert.fail(), { name: 'a', address: '10.0.0.2' }] },
    )
  })

  it('are refused at the exact key', () => {
    for (const host of ['a', 'a:', 'a:b', ':10.0.0.1', 'a b=10.0.0.1', 'a=10.0.0.1\n']) {
      assertRefused({ extra_hosts: ['a=::1', host] }, 'services.web.extra_hosts[1]', /a name and an address/)
    }
    assertRefused({ extra_hosts: ['host.docker.internal:host-gateway'] }, 'services.web.extra_hosts[0]', /out of reach/)
    assertRefused({ extra_hosts: { a: 'x' } }, 'services.web.extra_hosts.a', /a name and an address/)
    assertRefused({ extra_hosts: { a: ['::1', 'x'] } }, 'services.web.extra_hosts.a[1]', /a name and an address/)
  })
})
