import assert from 'node:assert/strict'
import { test } from 'node:test'
import request from 'supertest'
import {
  applyShape,
  diffShape,
  instanceDetailShape,
  instanceShape,
  listOf,
  problemShape,
  rulesShape,
  ruleTestShape,
  templateDetailShape,
  templateShape,
} from '../../orchestrator/api/wire.ts'
import { type TestApi, testApi } from '../support/api.ts'
import { webTemplate } from '../support/catalogs.ts'
import { leaseEvent } from '../support/fixtures.ts'
import { type OpenStore, onBothStores } from '../support/stores.ts'

const SECRET = 'correct-horse'
const WEB = webTemplate(
  'nginx:1',
  `  parameters: { PIN: { type: secret, required: true }, TITLE: { type: string, default: Hello } }
  outputs: { page: { type: url } }
  files: { /pin: { content: '$PIN' } }
  lifetime: { grace: 30s, most: 2h }
`,
)
const RULES = `rules:
  - name: staff
    match: { tags: [staff] }
    give: { template: web, parameters: { PIN: ${SECRET} }, most: 1 }
  - name: others
    give: nothing
quotas: { total: 10, per-owner: 2 }
`

function base64(texts: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(texts).map(([path, text]) => [path, Buffer.from(text).toString('base64')]))
}

onBothStores('the catalog over REST', (open: OpenStore) => {
  const call = (api: TestApi, method: 'get' | 'post' | 'delete', path: string) =>
    request(api.url)[method](path).ca(api.authority.pem).set('Authorization', `Bearer ${api.token}`)
  const apply = (api: TestApi, texts: Record<string, string>, more: object = {}) =>
    call(api, 'post', '/v1/apply').send({ files: base64(texts), ...more })
  const problem = (answer: request.Response) => problemShape.parse(JSON.parse(answer.text))
  const grant = (api: TestApi, n: number, tags: string[] = ['staff']) =>
    api.intake.applyLeases('h1', [
      {
        event: leaseEvent(n, Date.now(), { facts: { hostname: `device${n}`, tags } }),
        position: { journal: 'j', offset: n },
      },
    ])

  test('applies files, shows them, and what leases became of them', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const dry = applyShape.parse(
      (await apply(api, { 'web.yaml': WEB, 'rules.yaml': RULES }, { dryRun: true }).expect(200)).body,
    )
    assert.deepEqual(
      dry.changes.map((c) => [c.kind, c.action, c.version]),
      [
        ['template', 'created', 1],
        ['rules', 'created', 1],
      ],
    )
    assert.equal(await store.ruleset(), null)
    const applied = applyShape.parse((await apply(api, { 'web.yaml': WEB, 'rules.yaml': RULES }).expect(200)).body)
    assert.deepEqual(applied, dry)
    await grant(api, 1)
    await grant(api, 2)
    const detail = templateDetailShape.parse((await call(api, 'get', '/v1/templates/web').expect(200)).body)
    assert.deepEqual(
      [detail.number, detail.current, detail.kind, detail.entryPort, detail.graceSeconds, detail.lifetimeSeconds],
      [1, true, 'ad-hoc', 80, 30, 7200],
    )
    assert.deepEqual(
      [detail.usedBy, detail.instances],
      [{ rules: ['staff'], templates: [], instances: ['device1'] }, 1],
    )
    const rules = rulesShape.parse((await call(api, 'get', '/v1/rules').expect(200)).body)
    assert.deepEqual([rules.revision, rules.origin, rules.quotas], [1, 'api', { total: 10, perOwner: 2, spend: null }])
    assert.deepEqual(
      rules.items.map(({ name, instances, give }) => [name, instances, give?.most ?? null]),
      [
        ['staff', 1, 1],
        ['others', 0, null],
      ],
    )
    const [instance] = listOf(instanceShape).parse((await call(api, 'get', '/v1/instances').expect(200)).body).items
    assert.deepEqual([instance?.template.number, instance?.rule], [1, 'staff'])
    assert.ok(Date.parse(instance?.endsAt ?? '') > Date.now())
    await store.setOutputs(((await store.instances())[0] ?? assert.fail()).id, { page: 'http://x/' })
    const one = instanceDetailShape.parse((await call(api, 'get', '/v1/instances/device1').expect(200)).body)
    assert.deepEqual(one.parameters, { PIN: { secret: true }, TITLE: 'Hello' })
    assert.deepEqual(one.outputs, { page: 'http://x/' })
    assert.match((await store.leases()).find((l) => l.owner.iaid === 2)?.refusal ?? '', /staff/)
  })

  test('never tells a secret, whatever is asked', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await apply(api, { 'web.yaml': WEB, 'rules.yaml': RULES }).expect(200)
    await grant(api, 1)
    const changed = { 'rules.yaml': RULES.replace(SECRET, `${SECRET}-2`) }
    const texts = [
      (await apply(api, changed, { dryRun: true }).expect(200)).text,
      (await apply(api, changed).expect(200)).text,
    ]
    for (const path of [
      ...[
        'templates',
        'templates?all=true',
        'templates/web',
        'templates/web@1',
        'templates/web/versions',
        'rules',
        'leases',
      ],
      ...['instances', 'instances?all=true', 'instances/device1', 'events'],
    ]) {
      texts.push((await call(api, 'get', `/v1/${path}`).expect(200)).text)
    }
    texts.push(
      (
        await call(api, 'post', '/v1/rules/test')
          .send({ tags: ['staff'] })
          .expect(200)
      ).text,
    )
    assert.doesNotMatch(texts.join('\n'), new RegExp(SECRET))
    assert.doesNotMatch(texts.join('\n'), /"sealed"|v1\.[0-9a-f]{8}\./)
  })

  test('hides what a rule gives once its parameter is a secret, also in a version that is held', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const plain = WEB.replace('type: secret, required: true', 'type: string, required: true')
    const shown = async () => {
      const { text, body } = await call(api, 'get', '/v1/rules').expect(200)
      return { text, parameters: rulesShape.parse(body).items.map(({ give }) => give?.parameters ?? null) }
    }
    const rules = 'rules:\n  - { name: one, give: { template: web@1, parameters: { PIN: "1234", TITLE: Hi } } }\n'
    const more =
      '  - { name: two, give: { template: web, parameters: { PIN: "5678" } } }\n  - { name: three, give: nothing }\n'
    await apply(api, { 'web.yaml': plain, 'rules.yaml': rules + more }).expect(200)
    assert.deepEqual((await shown()).parameters, [{ PIN: '1234', TITLE: 'Hi' }, { PIN: '5678' }, null])
    await apply(api, { 'web.yaml': WEB }, { hold: true }).expect(200)
    for (const _ of ['held', 'rolled out']) {
      const { text, parameters } = await shown()
      assert.deepEqual(parameters, [{ PIN: { secret: true }, TITLE: 'Hi' }, { PIN: { secret: true } }, null])
      assert.doesNotMatch(text, /1234|5678/)
      await call(api, 'post', '/v1/templates/web/rollout').send({ to: '2' }).expect(200)
    }
  })

  test('refuses faulty files as a whole, with every fault, and what is no file at all', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const refused = problem(await apply(api, { 'a.yaml': WEB, 'b.yaml': 'services: { x: { imag: y } }' }).expect(422))
    assert.equal(refused.code, 'faulty-files')
    assert.ok(refused.faults?.some(({ file, line, key }) => file === 'b.yaml' && line === 1 && key.includes('imag')))
    assert.equal((await store.heads()).length, 1, 'the sample alone')
    for (const files of [
      { '../x.yaml': 'AA==' },
      { '/x.yaml': 'AA==' },
      { 'a//b.yaml': 'AA==' },
      { 'x.yaml': 'not base64' },
    ]) {
      assert.equal(problem(await call(api, 'post', '/v1/apply').send({ files }).expect(400)).code, 'invalid-input')
    }
    const large = base64({ 'web.yaml': WEB, 'photo.bin': 'x'.repeat(2 << 20) })
    await call(api, 'post', '/v1/apply').send({ files: large, dryRun: true }).expect(200)
    const most = problem(
      await call(api, 'post', '/v1/apply')
        .send({ files: { x: 'A'.repeat(17 << 20) } })
        .expect(413),
    )
    assert.match(most.message, /larger than 16384 KiB/)
  })

  test('rolls versions out and back, compares them, and removes what nothing uses', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await apply(api, { 'web.yaml': WEB }).expect(200)
    await apply(api, { 'web.yaml': WEB.replace('nginx:1', 'nginx:2') }, { hold: true }).expect(200)
    const rollout = (to: unknown) => call(api, 'post', '/v1/templates/web/rollout').send({ to })
    const current = async () =>
      listOf(templateShape)
        .parse((await call(api, 'get', '/v1/templates').expect(200)).body)
        .items.map(({ name, number }) => `${name}@${number}`)
    assert.deepEqual(await current(), ['sample@1', 'web@1'])
    assert.equal(templateShape.parse((await rollout(2).expect(200)).body).current, true)
    assert.deepEqual(await current(), ['sample@1', 'web@2'])
    await rollout('previous').expect(200)
    assert.deepEqual(await current(), ['sample@1', 'web@1'])
    assert.equal(problem(await rollout(7).expect(404)).code, 'not-found')
    assert.equal(problem(await rollout(-1).expect(400)).code, 'invalid-input')
    const versions = listOf(templateShape).parse(
      (await call(api, 'get', '/v1/templates/web/versions').expect(200)).body,
    )
    assert.deepEqual(
      versions.items.map(({ number, current: now }) => [number, now]),
      [
        [1, true],
        [2, false],
      ],
    )
    const diff = diffShape.parse((await call(api, 'get', '/v1/templates/web/diff?from=1&to=2').expect(200)).body)
    assert.match(diff.diff, /- {4}image: nginx:1\n\+ {4}image: nginx:2/)
    assert.equal(problem(await call(api, 'get', '/v1/templates/web/diff').expect(400)).field, 'from')
    assert.equal(problem(await call(api, 'get', '/v1/templates/nothing').expect(404)).code, 'not-found')
    await call(api, 'get', '/v1/templates/web@9').expect(404)
    await apply(api, { 'rules.yaml': RULES }).expect(200)
    const used = problem(await call(api, 'delete', '/v1/templates/web').expect(409))
    assert.deepEqual([used.code, /rule staff/.test(used.message)], ['template-in-use', true])
    await apply(api, { 'rules.yaml': 'rules: []' }).expect(200)
    await call(api, 'delete', '/v1/templates/web').expect(204)
    await call(api, 'delete', '/v1/templates/web').expect(404)
    assert.deepEqual(await current(), ['sample@1'])
  })

  test('says by which rule a lease would become what, and why not by the others', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await apply(api, { 'web.yaml': WEB, 'rules.yaml': RULES }).expect(200)
    const ask = async (guess: object) =>
      ruleTestShape.parse((await call(api, 'post', '/v1/rules/test').send(guess).expect(200)).body)
    const staff = await ask({ tags: ['staff'] })
    assert.deepEqual([staff.rule, staff.template?.name, staff.refusal], ['staff', 'web', null])
    const other = await ask({ tags: ['guest'], mac: '02:00:00:00:00:01' })
    assert.deepEqual([other.rule, other.template], ['others', null])
    assert.match(other.considered[0]?.mismatch ?? '', /tags/)
    await grant(api, 1)
    assert.match((await ask({ tags: ['staff'] })).refusal ?? '', /1/)
    assert.equal(problem(await call(api, 'post', '/v1/rules/test').send({ colour: 'red' }).expect(400)).field, 'colour')
    assert.equal(
      problem(await call(api, 'post', '/v1/rules/test').send({ duid: 'xyz' }).expect(400)).code,
      'invalid-input',
    )
  })

  test('refuses to change what the directory keeps, and asks for a token everywhere', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    await api.catalog.apply(new Map([['web.yaml', Buffer.from(WEB)]]), { origin: 'directory' })
    const kept = { 'web.yaml': WEB.replace('nginx:1', 'nginx:2') }
    assert.equal(problem(await apply(api, kept).expect(409)).code, 'kept-in-directory')
    assert.equal(problem(await call(api, 'delete', '/v1/templates/web').expect(409)).code, 'kept-in-directory')
    for (const path of ['/v1/templates/web', '/v1/rules', '/v1/schemas/template.json']) {
      await request(api.url).get(path).ca(api.authority.pem).expect(401)
    }
    await request(api.url).post('/v1/apply').ca(api.authority.pem).send({ files: {} }).expect(401)
  })

  test('publishes the schema of templates for editors', async () => {
    const { store } = await open()
    await using api = await testApi({ store })
    const schema = JSON.parse((await call(api, 'get', '/v1/schemas/template.json').expect(200)).text) as {
      properties: object
    }
    assert.ok('services' in schema.properties && 'x-orchestrator' in schema.properties)
  })
})
