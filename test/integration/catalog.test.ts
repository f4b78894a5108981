import assert from 'node:assert/strict'
import { it } from 'node:test'
import { OrchestratorError } from '../../common/errors.ts'
import { type Applied, type ApplyOptions, applyFiles } from '../../orchestrator/catalog/apply.ts'
import { removeTemplate } from '../../orchestrator/catalog/removal.ts'
import { diffVersions, rollOutTemplate } from '../../orchestrator/catalog/rollout.ts'
import { openStore } from '../../orchestrator/store/knex.ts'
import type { Store } from '../../orchestrator/store/store.ts'
import { filesOf, type TestCatalog, testCatalog, webTemplate } from '../support/catalogs.ts'
import { instance } from '../support/instances.ts'
import { onBothStores } from '../support/stores.ts'

const SECRET = 'correct-horse'
const withPin = webTemplate(
  'nginx',
  "  parameters: { PIN: { type: secret, required: true }, TITLE: { type: string, default: Hello } }\n  files: { /pin: { content: '$PIN' } }\n",
)
const RULES = `rules:
  - name: staff
    match: { tags: [staff] }
    give: { template: web, parameters: { PIN: ${SECRET} } }
  - name: others
    give: nothing
quotas: { total: 10 }
`

onBothStores('the catalog', (open) => {
  const apply = (catalog: TestCatalog, texts: Record<string, string>, options: Partial<ApplyOptions> = {}) =>
    applyFiles(catalog.context, filesOf(texts), { origin: 'api', ...options })
  const said = ({ changes }: Applied) => changes.map(({ name, action, version }) => `${name} ${action} ${version}`)
  const kinds = async (store: Store) => (await store.events({ limit: 100 })).map(({ kind }) => kind)
  const everything = async (store: Store) =>
    JSON.stringify([
      await store.templates(),
      await store.heads(),
      await store.ruleset(),
      await store.events({ limit: 100 }),
    ])
  const code =
    (expected: string, words = /./) =>
    (error: unknown) =>
      error instanceof OrchestratorError && error.code === expected && words.test(error.message)

  it('applies templates and rules as versions, and the same again changes nothing', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const first = await apply(catalog, { 'web.yaml': withPin, 'rules.yaml': RULES })
    assert.deepEqual(first.faults, [])
    assert.deepEqual(said(first), ['web created 1', 'rules created 1'])
    assert.match(first.changes[0]?.diff ?? '', /^--- \(nothing\)\n\+\+\+ web@1\n@@ -0,0 .*\n\+services:/)
    const before = await everything(store)
    const again = await apply(catalog, { 'web.yaml': `# a comment\n${withPin}`, 'rules.yaml': RULES })
    assert.deepEqual(said(again), ['web unchanged 1', 'rules unchanged 1'])
    assert.deepEqual(
      again.changes.map(({ diff }) => diff),
      ['', ''],
    )
    assert.equal(await everything(store), before)
    assert.deepEqual(await kinds(store), ['template.applied', 'rules.applied'])
    assert.equal(catalog.changes(), 1)
  })

  it('tells of a dry run what would be, with a diff, and changes nothing', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    await apply(catalog, { 'web.yaml': webTemplate() })
    const before = await everything(store)
    const dry = await apply(
      catalog,
      { 'web.yaml': webTemplate('nginx:2'), 'rules.yaml': 'rules: []\n' },
      { dryRun: true },
    )
    assert.deepEqual(said(dry), ['web changed 2', 'rules created 1'])
    assert.match(
      dry.changes[0]?.diff ?? '',
      /--- web@1\n\+\+\+ web@2\n[\s\S]*- {4}image: nginx\n\+ {4}image: nginx:2\n/,
    )
    const faulty = await apply(catalog, { 'web.yaml': 'services: {}\n' }, { dryRun: true })
    assert.ok(faulty.faults.length > 0)
    assert.equal(await everything(store), before)
    assert.equal(catalog.changes(), 1)
  })

  it('changes nothing at all when one file of several is faulty, and names file, line and key', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const texts = {
      'good.yaml': webTemplate(),
      'bad.yaml': webTemplate().replace("ports: ['80']", 'colour: red'),
      'none.yaml': webTemplate('nginx', '  backend: none\n'),
      'empty.yaml': '',
      'rules.yaml': 'rules:\n  - name: a\n    give: { template: gone }\n',
    }
    const { faults, changes } = await apply(catalog, texts)
    const about = (file: string) => faults.filter((fault) => fault.file === file)
    assert.deepEqual([about('bad.yaml')[0]?.line, about('bad.yaml')[0]?.key], [4, 'services.web.colour'])
    assert.equal(about('rules.yaml')[0]?.line, 3)
    assert.equal(about('none.yaml')[0]?.key, 'x-orchestrator.backend')
    assert.equal(about('good.yaml').length, 0)
    assert.ok(changes.length >= 1)
    assert.deepEqual([await store.templates(), await store.heads(), await store.ruleset()], [[], [], null])
    assert.deepEqual(await kinds(store), [])
  })

  it('refuses what belongs to nothing, and what is there twice', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const words = async (texts: Record<string, string>) =>
      (await apply(catalog, texts)).faults.map(({ file, message }) => `${file}: ${message}`).join('\n')
    assert.match(await words({ 'web.yaml': webTemplate(), 'web2.yaml': '' }), /^web2\.yaml: expected a template/)
    assert.match(
      await words({ 'a.yaml': `name: x\n${webTemplate()}`, 'b.yaml': `name: x\n${webTemplate()}` }),
      /b\.yaml: the template x is in a\.yaml too/,
    )
    assert.match(await words({ 'a/rules.yaml': 'rules: []', 'rules.yaml': 'rules: []' }), /the rules are in .* already/)
    assert.deepEqual(await store.heads(), [])
  })

  it('takes a folder with a compose.yaml as one template, with all that lies in it', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const compose =
      "services:\n  web:\n    image: nginx\n    ports: ['80']\n    configs: [page]\nconfigs: { page: { file: ./rules/page.yaml } }\nx-orchestrator: { summary: a page }\n"
    const texts = { 'site/compose.yaml': compose, 'site/rules/page.yaml': 'rules: of the page', 'site/README.md': 'x' }
    const applied = await apply(catalog, texts)
    assert.deepEqual([applied.faults, said(applied)], [[], ['site created 1']])
    const [template] = await store.templates()
    assert.deepEqual(Object.values(template?.files ?? {}), [Buffer.from('rules: of the page').toString('base64')])
  })

  it('compiles what is derived after what it is derived from, whatever their names, and refuses circles', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const base = webTemplate('nginx', '  parameters: { TITLE: { type: string, required: true } }\n')
    const heir = 'x-orchestrator:\n  summary: an heir\n  base: zz\n  set: { TITLE: Mine }\n'
    const applied = await apply(catalog, { 'aa.yaml': heir, 'zz.yaml': base })
    assert.deepEqual([applied.faults, said(applied).toSorted()], [[], ['aa created 1', 'zz created 1']])
    const [aa, zz] = await store.templates()
    assert.deepEqual(aa?.base, { name: 'zz', version: zz?.version })
    const changed = await apply(catalog, { 'aa.yaml': heir, 'zz.yaml': base.replace('nginx', 'nginx:2') })
    assert.deepEqual(said(changed).toSorted(), ['aa changed 2', 'zz changed 2'], 'an heir follows its base')
    const circle = await apply(catalog, { 'a.yaml': heir.replace('zz', 'b'), 'b.yaml': heir.replace('zz', 'a') })
    assert.match(circle.faults.map(({ message }) => message).join('\n'), /is derived from itself/)
  })

  it('never tells a secret: not in diffs, events, notes or the store, and tells that one changed', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const first = await apply(catalog, { 'web.yaml': withPin, 'rules.yaml': RULES })
    const second = await apply(catalog, { 'rules.yaml': RULES.replace(SECRET, 'battery-staple') })
    assert.deepEqual(said(second), ['rules changed 2'])
    assert.match(second.changes[0]?.diff ?? '', /-.*PIN: \(secret\)\n\+.*PIN: \(secret, changed\)/)
    const all = JSON.stringify([first, second]) + (await everything(store))
    assert.doesNotMatch(all, /correct-horse|battery-staple/)
    const pin = (await store.ruleset())?.rules[0]?.give?.parameters['PIN']
    assert.ok(typeof pin === 'object' && catalog.seal.open('PIN', pin) === 'battery-staple')
  })

  it('gives two applies at once distinct numbers, over one database', async () => {
    const { store, url } = await open()
    using catalog = await testCatalog(store)
    const other = url.startsWith('sqlite:') ? store : await openStore(url)
    using second = await testCatalog(other)
    const images = Array.from({ length: 6 }, (_, n) => `nginx:${n}`)
    const all = await Promise.all(
      images.map((image, n) => apply(n % 2 === 0 ? catalog : second, { 'web.yaml': webTemplate(image) })),
    )
    assert.deepEqual(all.map(({ changes }) => changes[0]?.version).toSorted(), [1, 2, 3, 4, 5, 6])
    assert.deepEqual(
      (await store.templates()).map(({ number }) => number),
      [1, 2, 3, 4, 5, 6],
    )
    if (other !== store) await other.close()
  })

  it('holds a version until it is rolled out, and goes back to the one before', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    await apply(catalog, { 'web.yaml': webTemplate('nginx:1') })
    assert.deepEqual(said(await apply(catalog, { 'web.yaml': webTemplate('nginx:2') }, { hold: true })), [
      'web changed 2',
    ])
    assert.deepEqual(said(await apply(catalog, { 'web.yaml': webTemplate('nginx:2') }, { hold: true })), [
      'web unchanged 2',
    ])
    const current = async () => {
      const [head] = await store.heads()
      return (await store.templates()).find(({ version }) => version === head?.version)?.number
    }
    const number = async (to: string | number) => (await rollOutTemplate(catalog.context, 'web', to)).number
    assert.equal(await current(), 1)
    await assert.rejects(number('previous'), code('invalid-input', /no previous version/))
    assert.deepEqual([await number(2), await current()], [2, 2])
    assert.deepEqual([await number('previous'), await current()], [1, 1])
    assert.deepEqual([await number('2'), await number((await store.templates())[0]?.version ?? '')], [2, 1])
    await assert.rejects(number(9), code('not-found', /no version 9; it has 1, 2/))
    await assert.rejects(rollOutTemplate(catalog.context, 'none', 1), code('not-found'))
    const { diff } = await diffVersions(store, 'web', { from: '1', to: '2' })
    assert.match(diff, /--- web@1\n\+\+\+ web@2\n[\s\S]*- {4}image: nginx:1\n\+ {4}image: nginx:2/)
    assert.equal((await kinds(store)).filter((kind) => kind === 'template.rolled-out').length, 4)
  })

  it('rolls out no version that weakens isolation once its name is no longer trusted', async () => {
    const { store } = await open()
    using trusting = await testCatalog(store, { trusted: ['web'] })
    using catalog = await testCatalog(store)
    const strong = webTemplate().replace("ports: ['80']", "ports: ['80']\n    privileged: true")
    assert.deepEqual((await apply(trusting, { 'web.yaml': strong })).faults, [])
    await apply(trusting, { 'web.yaml': webTemplate() })
    const untrusted = code('invalid-input', /^to: template web@1 weakens .*privileged.*templates\.trusted: \[web\]$/)
    await assert.rejects(rollOutTemplate(catalog.context, 'web', 'previous'), untrusted)
    await assert.rejects(rollOutTemplate(catalog.context, 'web', 1), untrusted)
    assert.equal((await rollOutTemplate(trusting.context, 'web', 1)).number, 1)
    assert.equal((await rollOutTemplate(catalog.context, 'web', 2)).number, 2)
  })

  it('tries no more patterns in an apply once one took too long, and tells that of one template', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const slow = webTemplate(
      'nginx',
      `  parameters: { A: { type: string, pattern: '(a+)+', default: '${'a'.repeat(60)}!' }, N: { type: integer, default: x } }\n`,
    )
    const names = Array.from({ length: 30 }, (_, n) => `slow${n}.yaml`)
    const { faults } = await apply(catalog, Object.fromEntries(names.map((name) => [name, slow])))
    const about = (key: string) => faults.filter((fault) => fault.key === `x-orchestrator.parameters.${key}.default`)
    assert.deepEqual([about('A').length, about('N').length], [1, names.length])
    assert.match(about('A')[0]?.message ?? '', /takes too long/)
    assert.deepEqual(await store.heads(), [])
  })

  it('shows in no diff of rules what became a secret after they were applied', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const rules = (names: string[]) =>
      `rules:\n${names.map((name) => `  - { name: ${name}, give: { template: web, parameters: { PIN: ${SECRET} } } }\n`).join('')}`
    const plain = withPin.replace('type: secret', 'type: string')
    await apply(catalog, { 'web.yaml': plain, 'rules.yaml': rules(['same', 'former']) })
    const { faults, changes } = await apply(catalog, { 'web.yaml': withPin, 'rules.yaml': rules(['same', 'later']) })
    assert.deepEqual(faults, [])
    const diff = changes.find(({ kind }) => kind === 'rules')?.diff ?? ''
    assert.match(diff, /-\s+PIN: \(not yet a secret\)\n\+\s+PIN: \(secret\)/)
    assert.doesNotMatch(diff, new RegExp(SECRET))
  })

  it('refuses to remove what is in use, says by whom, and removes it when it is free', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    const heir = 'x-orchestrator:\n  summary: an heir\n  base: web\n'
    const rules = (template: string) => `rules:\n  - { name: all, give: { template: ${template} } }\n`
    const applied = await apply(catalog, { 'web.yaml': webTemplate(), 'heir.yaml': heir, 'rules.yaml': rules('web') })
    assert.deepEqual(applied.faults, [])
    const version = (await store.heads()).find(({ name }) => name === 'web')?.version ?? ''
    await store.transaction((tx) => tx.insertInstance(instance(1, { template: { name: 'web', version } })))
    const remove = (name: string) => removeTemplate(catalog.context, name, 'api')
    await assert.rejects(remove('web'), code('template-in-use', /rule all; template heir; instance name1/))
    await apply(catalog, { 'rules.yaml': 'rules: []\n' })
    await remove('heir')
    await assert.rejects(remove('web'), code('template-in-use', /in use by instance name1;/))
    await store.transaction((tx) =>
      tx.updateInstance(instance(1, { template: { name: 'web', version }, state: 'gone' })),
    )
    await remove('web')
    assert.deepEqual(await store.heads(), [])
    await assert.rejects(remove('none'), code('not-found'))
  })

  it('lets nobody but the directory change what the directory keeps', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    await apply(catalog, { 'web.yaml': webTemplate('nginx:1'), 'rules.yaml': 'rules: []\n' }, { origin: 'directory' })
    await apply(catalog, { 'web.yaml': webTemplate('nginx:2'), 'rules.yaml': 'rules: []\n' }, { origin: 'directory' })
    const kept = code('kept-in-directory', /catalog directory/)
    await assert.rejects(apply(catalog, { 'web.yaml': webTemplate('nginx:3') }), kept)
    await assert.rejects(
      apply(catalog, { 'rules.yaml': RULES.replace('web, parameters: { PIN: correct-horse }', 'web') }),
      kept,
    )
    await assert.rejects(rollOutTemplate(catalog.context, 'web', 1), kept)
    await assert.rejects(removeTemplate(catalog.context, 'web', 'api'), kept)
    assert.deepEqual(said(await apply(catalog, { 'web.yaml': webTemplate('nginx:2') })), ['web unchanged 2'])
  })

  it('ends the rules of the directory when their file is taken out of it, and no others', async () => {
    const { store } = await open()
    using catalog = await testCatalog(store)
    await apply(catalog, { 'rules.yaml': 'rules: []\n' })
    await apply(catalog, {}, { origin: 'directory' })
    assert.deepEqual([(await store.ruleset())?.revision, (await store.ruleset())?.origin], [1, 'api'])
    await apply(catalog, { 'rules.yaml': 'rules: [{ name: a, give: nothing }]\n' }, { origin: 'directory' })
    await apply(catalog, {}, { origin: 'directory' })
    assert.deepEqual(await store.ruleset(), { revision: 3, rules: [], quotas: {}, origin: 'default' })
  })

  it('applies rules anew after the key of the seal was lost', async () => {
    const { store } = await open()
    using first = await testCatalog(store)
    await apply(first, { 'web.yaml': withPin, 'rules.yaml': RULES })
    using second = await testCatalog(store)
    assert.deepEqual(said(await apply(second, { 'rules.yaml': RULES })), ['rules changed 2'])
    const pin = (await store.ruleset())?.rules[0]?.give?.parameters['PIN']
    assert.ok(typeof pin === 'object')
    assert.equal(second.seal.open('PIN', pin), SECRET)
    assert.throws(() => first.seal.open('PIN', pin), code('seal-broken', /several orchestrators share a database/))
  })
})
