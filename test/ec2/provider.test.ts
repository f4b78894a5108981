import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { InvalidInput, OrchestratorError } from '../../common/errors.ts'
import type { Provider } from '../../orchestrator/backends/cloud/provider.ts'
import { createEc2 } from '../../orchestrator/backends/cloud/providers/ec2/ec2.ts'
import { ec2Settings } from '../../orchestrator/backends/cloud/providers/ec2/settings.ts'
import { INSTALLATION, orderOf, type ProviderSubject, providerContract } from '../contract/provider.ts'
import { providerContext } from '../support/clouds.ts'
import { type FaultProxy, faultProxy } from '../support/fault-proxy.ts'
import { type Moto, startMoto } from '../support/moto.ts'

const never = new AbortController().signal
/** The smallest page that EC2 allows. */
const PAGE = 5

describe('ec2 against moto', () => {
  let moto: Moto
  let faults: FaultProxy
  const opened: Provider[] = []

  before(async () => {
    moto = await startMoto()
    faults = await faultProxy(moto.url)
  })
  // It lists what is gone for ever, slower and slower.
  beforeEach(() => moto.reset())
  after(async () => {
    for (const provider of opened) await provider.close()
    await faults?.close()
    await moto?.close()
  })

  const open = (installation = INSTALLATION, settings: Record<string, unknown> = {}): Provider => {
    const provider = createEc2(
      ec2Settings.parse({ region: 'eu-central-1', endpoint: faults.url, ...settings }),
      providerContext({
        target: 'frankfurt',
        installation,
        credential: async () => ({ accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' }),
      }),
      { pageSize: PAGE, answerMs: 20_000 },
    )
    opened.push(provider)
    return provider
  }

  /** Asks moto itself, beside our adapter. */
  const asked = async (action: string): Promise<string> => {
    const answer = await fetch(moto.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        authorization:
          'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0',
      },
      body: new URLSearchParams({
        Action: action,
        Version: '2016-11-15',
        'Filter.1.Name': 'tag:orchestrator-installation',
        'Filter.1.Value.1': INSTALLATION,
      }),
    })
    return answer.text()
  }

  const subject: ProviderSubject = {
    get faults() {
      return faults
    },
    open,
    size: 't3.micro',
    image: 'ami-12c6146b',
    unknownImage: 'ami-00000000',
    unknownSize: 'x9.colossal',
    pageSize: PAGE,
    refusal: {
      kind: 'answered',
      status: 401,
      headers: { 'content-type': 'text/xml' },
      body: '<Response><Errors><Error><Code>AuthFailure</Code><Message>AWS was not able to validate the provided access credentials</Message></Error></Errors><RequestID>0</RequestID></Response>',
    },
    listCalls: (_, body) => /Action=DescribeInstances&/.test(body),
    async belongings() {
      const things = await Promise.all([
        asked('DescribeVpcs'),
        asked('DescribeSubnets'),
        asked('DescribeInternetGateways'),
        asked('DescribeSecurityGroups'),
      ])
      return things
        .flatMap((text) => [...text.matchAll(/<(?:vpcId|subnetId|internetGatewayId|groupId|groupName)>([^<]+)</g)])
        .map(([, id]) => id ?? '')
        .sort()
    },
  }
  providerContract('ec2', async () => subject)

  it('puts machines into the subnet of the settings, and leaves that alone', async () => {
    const maker = open()
    const { id } = await maker.create(orderOf(subject, 1), never)
    const text = await asked('DescribeSubnets')
    const subnet = /<subnetId>([^<]+)</.exec(text)?.[1]
    const provider = open('1111222233334444', { subnet })
    const made = await provider.create(orderOf(subject, 2, 1, '1111222233334444'), never)
    assert.ok((await asked('DescribeInstances')).includes(subnet ?? '?'))
    await provider.delete(made.id, never)
    await provider.tidy(never)
    assert.ok((await asked('DescribeSubnets')).includes(subnet ?? '?'))
    await maker.delete(id, never)
    await maker.tidy(never)
    assert.ok(!(await asked('DescribeSubnets')).includes(subnet ?? '?'))
  })

  it('names the setting of a subnet that is not there', async () => {
    const provider = open(INSTALLATION, { subnet: 'subnet-0123456789abcdef0' })
    for (const call of [() => provider.create(orderOf(subject, 3), never), () => provider.check(never)]) {
      await assert.rejects(
        call(),
        (error) => error instanceof InvalidInput && error.field === 'settings.provider.subnet',
      )
    }
  })

  it('names the setting of a key pair and of an instance profile that are not there', async () => {
    const wrong = [
      ['settings.provider.keyName', { keyName: 'nobody' }],
      ['settings.provider.instanceProfile', { instanceProfile: 'nobody' }],
    ] as const
    for (const [field, settings] of wrong) {
      const provider = open(INSTALLATION, settings)
      await assert.rejects(provider.create(orderOf(subject, 4), never), (error) => {
        assert.ok(error instanceof InvalidInput, String(error))
        assert.equal(error.field, field)
        return true
      })
      await provider.tidy(never)
    }
  })

  it('tells what a machine printed', async () => {
    const provider = open()
    const { id } = await provider.create(orderOf(subject, 5), never)
    assert.equal(typeof (await provider.console(id, never)), 'string')
    assert.equal(await provider.console('i-0123456789abcdef0', never), null)
    await provider.delete(id, never)
    await provider.tidy(never)
  })

  it('buys at the spot price only where asked', async () => {
    const provider = open()
    faults.reset()
    await provider.create({ ...orderOf(subject, 6), spot: true }, never)
    await provider.create(orderOf(subject, 7), never)
    const runs = faults.seen.filter(({ body }) => body.includes('Action=RunInstances&'))
    assert.deepEqual(
      runs.map(({ body }) => body.includes('InstanceMarketOptions.MarketType=spot')),
      [true, false],
    )
    for (const { id } of await provider.list(never)) await provider.delete(id, never)
    await provider.tidy(never)
  })

  it('admits to a machine one address alone', async () => {
    const provider = open()
    const { id } = await provider.create(orderOf(subject, 8), never)
    const text = await asked('DescribeSecurityGroups')
    const rules = /<ipPermissions>(.*?)<\/ipPermissions>/s.exec(text)?.[1] ?? ''
    assert.deepEqual(
      [...rules.matchAll(/<cidrIpv6>([^<]+)</g)].map(([, cidr]) => cidr),
      ['2001:db8:1::1/128'],
    )
    assert.ok(!rules.includes('<cidrIp>'))
    await provider.delete(id, never)
    await provider.tidy(never)
  })

  it('asks for the credential anew with each call, for it may be rotated, and never tells it', async () => {
    const keys = ['AKIDFIRST', 'AKIDSECOND']
    let n = 0
    const provider = createEc2(
      ec2Settings.parse({ region: 'eu-central-1', endpoint: moto.url }),
      providerContext({
        target: 'frankfurt',
        installation: INSTALLATION,
        credential: async () => ({ accessKeyId: keys[n++] ?? '', secretAccessKey: 'very-secret' }),
      }),
    )
    await provider.list(never)
    await provider.list(never)
    await assert.rejects(provider.list(never), (error) => {
      assert.ok(error instanceof OrchestratorError)
      assert.equal(error.code, 'credential-missing')
      assert.ok(!JSON.stringify(error).includes('very-secret') && !error.message.includes('very-secret'))
      return true
    })
    await provider.close()
  })
})
