import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { FABRIC, type LabSwarm } from '../../lab/swarm.ts'
import { expiredCertificates, swarmCertificates } from '../../lab/swarm-tls.ts'
import type { BackendReportShape } from '../../orchestrator/api/wire.ts'
import { createFaults } from '../support/faults.ts'
import { LoneOrchestrator } from '../support/lone-orchestrator.ts'
import { type NamespaceRelay, namespaceRelay } from '../support/namespace-relay.ts'
import { openSwarm } from '../support/swarm.ts'
import { type TargetProxy, targetProxy } from '../support/target-proxy.ts'

const ENGINE_PORT = 2376
/** A port on which nothing listens (RFC 863, discard). */
const NOBODY = 9

describe('a swarm is checked through the API', () => {
  const folder = mkdtempSync(join(tmpdir(), 'swarm-check-'))
  const file = (name: string) => join(folder, `${name}.pem`)
  const known = { ca: file('ca'), cert: file('client'), key: file('client-key') }
  let swarm: LabSwarm
  let relay: NamespaceRelay
  const proxies: TargetProxy[] = []
  let orchestrator: LoneOrchestrator

  /** Before the same manager, as another program would show itself: with another certificate, or without TLS. */
  const shownAs = async (name: string | null, host = '::1'): Promise<number> => {
    const server = name === null ? null : { cert: readFileSync(file(name)), key: readFileSync(file(`${name}-key`)) }
    const target = { socketPath: swarm.node('n1').engine.socket }
    const proxy = await targetProxy({
      target,
      listen: { host },
      faults: createFaults(),
      ...(server && { tls: { server } }),
    })
    proxies.push(proxy)
    return proxy.port
  }

  before(async () => {
    const addresses = [`${FABRIC.prefix6}11`, '::1']
    await swarmCertificates(folder, addresses)
    await expiredCertificates(folder, addresses)
    swarm = await openSwarm({ prefix: 'swh', managers: 1, workers: 0 }, ({ address }) => [
      ...['--host', `tcp://[${address}]:${ENGINE_PORT}`, '--tlsverify', '--tlscacert', file('ca')],
      ...['--tlscert', file('server'), '--tlskey', file('server-key')],
    ])
    const manager = { host: swarm.node('n1').address, port: ENGINE_PORT }
    relay = await namespaceRelay(swarm.fabric, manager, join(folder, 'relay.sock'))
    const backend = (tls: object, ...managers: string[]) => ({
      kind: 'swarm',
      settings: { managers, tls: { ...known, ...tls }, nodesForbidNewPrivileges: true },
    })
    const there = `tcp://[::1]:${relay.port}`
    const away = `tcp://[::1]:${NOBODY}`
    orchestrator = new LoneOrchestrator({
      backends: {
        fine: backend({}, there),
        'one-away': backend({}, away, there),
        stranger: backend({ cert: file('stranger-client'), key: file('stranger-client-key') }, there),
        expired: backend({ cert: file('expired-client'), key: file('expired-client-key') }, there),
        mixed: backend({ key: file('stranger-client-key') }, there),
        'other-authority': backend({ ca: file('stranger') }, there),
        'other-name': backend({}, `tcp://127.0.0.1:${await shownAs('server', '127.0.0.1')}`),
        'expired-manager': backend({}, `tcp://[::1]:${await shownAs('expired-server')}`),
        'without-tls': backend({}, `tcp://[::1]:${await shownAs(null)}`),
        away: backend({}, away),
      },
    })
    await orchestrator.start()
  })
  after(async () => {
    await orchestrator?.[Symbol.asyncDispose]()
    await relay?.[Symbol.asyncDispose]()
    for (const proxy of proxies) await proxy[Symbol.asyncDispose]()
    await swarm?.close()
    rmSync(folder, { recursive: true })
  })

  const checked = async (name: string) => {
    const { targets } = await orchestrator.call<BackendReportShape>('POST', `/v1/backends/${name}/check`)
    assert.equal(targets.length, 1)
    return targets[0] ?? assert.fail()
  }

  for (const name of ['fine', 'one-away']) {
    it(`says what it is and what it lacks (${name})`, async () => {
      const { version, abilities, missing, error } = await checked(name)
      assert.equal(error, null)
      assert.match(version ?? '', /^Docker Swarm \d+\.\d+\.\S+ \(API 1\.\d+\), [a-z0-9]{25}, asked through tcp:/)
      assert.match(abilities.join(), /1 of 1 managers, 1 of 1 nodes/)
      assert.match(missing.join(), /promote nodes until there are three or five/)
    })
  }

  const faults: [backend: string, code: string, message: RegExp][] = [
    [
      'stranger',
      'credential-refused',
      /it refuses our certificate \((bad certificate|unknown ca)\): make tls\.cert and tls\.key anew/,
    ],
    ['expired', 'credential-refused', /settings\.tls: cert expired on \d{4}-\d\d-\d\d: make a new one/],
    ['mixed', 'credential-refused', /settings\.tls: key is not the key of cert/],
    ['other-authority', 'credential-refused', /its certificate is not of the authority in tls\.ca: give the authority/],
    ['other-name', 'credential-refused', /its certificate is not for this address: .* subjectAltName/],
    ['expired-manager', 'credential-refused', /its certificate has expired: make that manager a new one/],
    ['without-tls', 'credential-refused', /it does not speak TLS there: start its engine with --tlsverify/],
    ['away', 'host-unreachable', /none of its managers answers \(tcp:\/\/\[::1\]:9: .*ECONNREFUSED/],
  ]
  for (const [name, code, message] of faults) {
    it(`gives one reason with its remedy: ${name}`, async () => {
      const { error, version } = await checked(name)
      assert.equal(version, null)
      assert.equal(error?.code, code, error?.message)
      assert.match(error?.message ?? '', message)
    })
  }
})
