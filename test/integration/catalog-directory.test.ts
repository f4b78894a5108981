import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, describe, it } from 'node:test'
import { applyFiles } from '../../orchestrator/catalog/apply.ts'
import { type CatalogDirectory, followDirectory } from '../../orchestrator/catalog/directory.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import { filesOf, testCatalog, webTemplate } from '../support/catalogs.ts'
import { silent } from '../support/fixtures.ts'
import { instance } from '../support/instances.ts'
import { until } from '../support/until.ts'

describe('the watched catalog directory', () => {
  const made: string[] = []
  const ends: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end()
  })
  after(() => {
    for (const directory of made) rmSync(directory, { recursive: true })
  })

  /** A folder with these files, and how it is followed. */
  async function world(texts: Record<string, string> = {}) {
    const root = mkdtempSync('/tmp/orchestrator-watched-')
    made.push(root)
    const folder = join(root, 'catalog')
    mkdirSync(folder)
    const store = await openStore(`sqlite:${join(root, 'test.db')}`)
    ends.push(() => store.close())
    const catalog = await testCatalog(store)
    ends.push(async () => catalog[Symbol.dispose]())
    const write = (name: string, text: string) => writeFileSync(join(folder, name), text)
    for (const [name, text] of Object.entries(texts)) write(name, text)
    const follow = async (): Promise<CatalogDirectory> => {
      const followed = await followDirectory(folder, catalog.context, silent)
      ends.push(() => followed.stop())
      return followed
    }
    const image = async (name = 'web') => {
      const head = (await store.heads()).find((one) => one.name === name)
      return (await store.templates()).find((one) => one.name === name && one.version === head?.version)?.images[0]
    }
    const becomes = (expected: string | undefined, name = 'web') =>
      until(`${name} has image ${expected}`, async () => (await image(name)) === expected)
    const events = async (kind: string) =>
      (await store.events({ limit: 100 })).filter((e) => e.kind === kind).map((e) => e.message)
    return { root, folder, store, catalog, write, follow, image, becomes, events }
  }

  it('applies what stands in it at the start, and what changes later, once', async () => {
    const w = await world({ 'web.yaml': webTemplate('nginx:1') })
    await w.follow()
    assert.equal(await w.image(), 'nginx:1')
    w.write('web.yaml', webTemplate('nginx:2'))
    await w.becomes('nginx:2')
    w.write('rules.yaml', 'rules: [{ name: a, give: nothing }]\n')
    await until('the rules are in force', async () => (await w.store.ruleset())?.rules.length === 1)
    assert.equal((await w.events('template.applied')).length, 2)
    assert.ok((await w.store.heads()).every(({ origin }) => origin === 'directory'))
  })

  it('sees a file that replaces another at once, and does not read what editors leave beside it', async () => {
    const w = await world({ 'web.yaml': webTemplate('nginx:1') })
    await w.follow()
    for (const name of ['.web.yaml.swp', 'web.yaml~', '#web.yaml#', '4913', '.hidden.yaml'])
      w.write(name, 'services: [')
    symlinkSync('user@host.1234', join(w.folder, '.#web.yaml'))
    w.write('.web.yaml.new', webTemplate('nginx:2'))
    renameSync(join(w.folder, '.web.yaml.new'), join(w.folder, 'web.yaml'))
    await w.becomes('nginx:2')
    assert.deepEqual(await w.events('catalog.refused'), [])
  })

  it('follows links as Kubernetes changes them: all files at once', async () => {
    const w = await world()
    for (const [version, image] of [
      ['..1', 'nginx:1'],
      ['..2', 'nginx:2'],
    ] as const) {
      mkdirSync(join(w.folder, version))
      writeFileSync(join(w.folder, version, 'web.yaml'), webTemplate(image))
    }
    symlinkSync('..1', join(w.folder, '..data'))
    symlinkSync(join('..data', 'web.yaml'), join(w.folder, 'web.yaml'))
    await w.follow()
    assert.equal(await w.image(), 'nginx:1')
    symlinkSync('..2', join(w.folder, '..data_tmp'))
    renameSync(join(w.folder, '..data_tmp'), join(w.folder, '..data'))
    await w.becomes('nginx:2')
    assert.equal((await w.store.heads()).length, 1)
  })

  it('keeps the last good state of everything while a file is faulty, and tells that once until the fault changes', async () => {
    const w = await world({ 'web.yaml': webTemplate('nginx:1'), 'other.yaml': webTemplate('other:1') })
    const followed = await w.follow()
    w.write('web.yaml', 'services: [broken')
    w.write('other.yaml', webTemplate('other:2'))
    await until('it is told', async () => (await w.events('catalog.refused')).length === 1)
    assert.match((await w.events('catalog.refused'))[0] ?? '', /web\.yaml:1: .*what was in force stays$/)
    for (let n = 0; n < 3; n++) await assert.rejects(followed.reload(), /web\.yaml/)
    assert.deepEqual([await w.image(), await w.image('other')], ['nginx:1', 'other:1'])
    assert.equal((await w.events('catalog.refused')).length, 1)
    w.write('web.yaml', '')
    await until('the other fault is told', async () => (await w.events('catalog.refused')).length === 2)
    w.write('web.yaml', webTemplate('nginx:3'))
    await w.becomes('nginx:3')
    await w.becomes('other:2', 'other')
  })

  it('starts with the last good state when the folder is faulty, or gone', async () => {
    const w = await world({ 'web.yaml': webTemplate('nginx:1') })
    await (await w.follow()).stop()
    w.write('web.yaml', 'x-orchestrator: {}')
    const second = await w.follow()
    assert.equal(await w.image(), 'nginx:1')
    await second.stop()
    renameSync(w.folder, `${w.folder}.away`)
    await w.follow()
    assert.equal(await w.image(), 'nginx:1', 'a folder that cannot be read is no deletion')
    assert.match((await w.events('catalog.refused')).at(-1) ?? '', /cannot be read.*no such file/)
  })

  it('says nothing of a folder that never was, and takes it up when it comes', async () => {
    const w = await world()
    rmSync(w.folder, { recursive: true })
    const followed = await w.follow()
    await followed.reload()
    assert.deepEqual(await w.store.events({ limit: 10 }), [])
    mkdirSync(w.folder)
    w.write('web.yaml', webTemplate('nginx:1'))
    await until('it is applied', async () => (await w.image()) === 'nginx:1', { deadlineMs: 20_000 })
  })

  it('removes a template whose file is gone, and one in use as soon as it is free', async () => {
    const w = await world({ 'web.yaml': webTemplate(), 'other.yaml': webTemplate('other') })
    const followed = await w.follow()
    const [head] = (await w.store.heads()).filter(({ name }) => name === 'web')
    const template = { name: 'web', version: head?.version ?? '' }
    await w.store.transaction((tx) => tx.insertInstance(instance(1, { template })))
    rmSync(join(w.folder, 'web.yaml'))
    rmSync(join(w.folder, 'other.yaml'))
    await until('the other is gone', async () => (await w.store.heads()).length === 1)
    await until('it is told who uses it', async () => (await w.events('catalog.refused')).length === 1)
    assert.match((await w.events('catalog.refused'))[0] ?? '', /template web is in use by instance name1/)
    await followed.reload()
    assert.equal((await w.events('catalog.refused')).length, 1)
    await w.store.transaction((tx) => tx.updateInstance(instance(1, { template, state: 'gone' })))
    await followed.reload()
    assert.deepEqual(await w.store.heads(), [])
  })

  it('leaves alone what people applied, and takes over what they applied by the same name', async () => {
    const w = await world({ 'web.yaml': webTemplate('nginx:2') })
    await applyFiles(
      w.catalog.context,
      filesOf({ 'web.yaml': webTemplate('nginx:1'), 'own.yaml': webTemplate('own') }),
      {
        origin: 'api',
      },
    )
    await w.follow()
    assert.deepEqual(
      (await w.store.heads()).map(({ name, origin }) => `${name} ${origin}`),
      ['own api', 'web directory'],
    )
    assert.deepEqual([await w.image(), await w.image('own')], ['nginx:2', 'own'])
  })

  it('refuses a folder that leads back into itself, and one that is too large', async () => {
    const w = await world({ 'web.yaml': webTemplate() })
    const followed = await w.follow()
    symlinkSync('.', join(w.folder, 'again'))
    await assert.rejects(followed.reload(), /leads back into itself/)
    rmSync(join(w.folder, 'again'))
    writeFileSync(join(w.folder, 'large'), Buffer.alloc(17 * 1024 * 1024))
    await assert.rejects(followed.reload(), /more than 16 MiB/)
    rmSync(join(w.folder, 'large'))
    await followed.reload()
  })
})
