import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { systemClock } from '../../common/clock.ts'
import { OrchestratorError } from '../../common/errors.ts'
import { type BackendsSetting, loadBackends } from '../../orchestrator/backends/load.ts'
import { type InstalledPackage, installPackage } from '../support/backend-packages.ts'
import { webTemplate } from '../support/catalogs.ts'
import { silent } from '../support/fixtures.ts'
import { LoneHost } from '../support/lone-host.ts'
import { LoneOrchestrator } from '../support/lone-orchestrator.ts'
import { memoryRecords } from '../support/records.ts'
import { startTargetServer } from '../support/target-server.ts'
import { until } from '../support/until.ts'

const catalog = { 'sample.yaml': webTemplate('nginx', '  backend: mine\n') }

describe('a backend in a package', () => {
  it('takes a lease to a running instance and back, named by its package or by its path', async () => {
    using installed = installPackage()
    await using target = await startTargetServer({ bootMs: 300 })
    for (const name of [installed.name, installed.module]) {
      const backends = { mine: { package: name, settings: { url: `http://127.0.0.1:${target.port}` } } }
      await using orchestrator = new LoneOrchestrator(
        { backends, packages: { directory: installed.directory } },
        catalog,
      )
      await orchestrator.start()
      await using host = await LoneHost.join(orchestrator, 'h1')
      await host.connect()
      await host.lease(1, 'granted')
      const instance = await until('it runs', async () => {
        const [one] = await orchestrator.instances()
        return one?.state === 'running' && one
      })
      assert.equal(instance.host, 'rack-1')
      assert.deepEqual(target.boxes(), [instance.id])
      await until('its owner is led there', () => host.ways.get(instance.id)?.includes('2001:db8:b0::'))
      await host.lease(1, 'ended')
      await until('nothing is left', () => target.things().length === 0)
      await until('it is gone', async () => (await orchestrator.instances()).every(({ state }) => state === 'gone'))
      assert.equal(host.ways.size, 0)
    }
  })

  it('has its templates checked by it', async () => {
    using installed = installPackage()
    const backends = { mine: { package: installed.name, settings: { url: 'http://[::1]:1' } } }
    const two = `${webTemplate('nginx', '  backend: mine\n')}`.replace('x-orch', '  db: {image: redis}\nx-orch')
    await using orchestrator = new LoneOrchestrator(
      { backends, packages: { directory: installed.directory } },
      { 'sample.yaml': two },
    )
    await orchestrator.start()
    await until('it is told', () => orchestrator.said.includes('a box runs one service: leave the others out'))
  })

  const wrong: [what: string, change: (text: string) => string, settings: unknown, reason: RegExp][] = [
    [
      'another contract',
      (t) => t.replace('contract: 1', 'contract: 2'),
      good(),
      /has contract 2, and this orchestrator has contract 1/,
    ],
    ['no version of the contract', (t) => t.replace('contract: 1,', ''), good(), /has no `contract`/],
    ['no backend', (t) => t.replace('export const backend', 'export const back'), good(), /exports no `backend`/],
    ['no remove', (t) => t.replace('remove: (instance', 'destroy: (instance'), good(), /gave a backend without remove/],
    [
      'a name of its own',
      (t) => t.replace('name: context.name,', "name: 'racks',"),
      good(),
      /gave a backend named "racks", not mine/,
    ],
    [
      'a create that throws',
      (t) => t.replace('return racks(', "throw new TypeError('oh'); return racks("),
      good(),
      /cannot be made: oh/,
    ],
    [
      'text that is no JavaScript',
      () => 'export const backend = {',
      good(),
      /cannot be loaded: .*Unexpected end of input/,
    ],
    ['an import that is missing', (t) => `import 'not-installed'\n${t}`, good(), /cannot be loaded: .*not-installed/],
    ['an unknown setting', (t) => t, { ...good(), colour: 'red' }, /settings\.colour: there is no such setting/],
    ['a setting without sense', (t) => t, { url: 'racks' }, /settings\.url: expected the address of the racks/],
  ]
  for (const [what, change, settings, reason] of wrong) {
    it(`is refused with one clear reason: ${what}`, async () => {
      using installed = installPackage(change)
      await assert.rejects(load(installed, { package: installed.name, settings }), refused(reason))
    })
  }

  it('is refused with one clear reason: it is not installed, or there is no such kind', async () => {
    using installed = installPackage()
    const settings = good()
    const nowhere = /package @me\/nowhere cannot be loaded/
    await assert.rejects(load(installed, { package: '@me/nowhere', settings }), refused(nowhere))
    await assert.rejects(load(installed, { kind: 'swamr', settings }), refused(/there is no kind swamr/))
  })

  it('ends the start when it is refused, and that is told once', async () => {
    using installed = installPackage((text) => text.replace('contract: 1', 'contract: 2'))
    const backends = { mine: { package: installed.name, settings: good() } }
    await using orchestrator = new LoneOrchestrator({ backends, packages: { directory: installed.directory } })
    assert.equal(await orchestrator.launch(), 1, orchestrator.said)
    const lines = orchestrator.said.trim().split('\n')
    const told = lines
      .map((line) => JSON.parse(line) as { level: string; msg: string })
      .filter((l) => l.level === 'error')
    assert.equal(told.length, 1, orchestrator.said)
    assert.match(told[0]?.msg ?? '', /^backends\.mine: .* has contract 2, and this orchestrator has contract 1/)
  })
})

function good(): object {
  return { url: 'http://[::1]:1' }
}

function load({ directory }: InstalledPackage, mine: BackendsSetting[string]): Promise<unknown> {
  const contextFor = (name: string) => {
    const context = { name, installation: '1111111111111111', clock: systemClock, log: silent }
    return { ...context, records: memoryRecords(), credential: async () => ({}) }
  }
  return loadBackends({ mine }, {}, contextFor, directory)
}

/** One error of the start that names the backend and says why. */
function refused(reason: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof OrchestratorError)
    assert.equal(error.code, 'backend-unusable')
    assert.match(error.message, /^backends\.mine: /)
    assert.match(error.message, reason)
    return true
  }
}
