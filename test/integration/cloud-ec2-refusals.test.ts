import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { after, before, beforeEach, describe, it } from 'node:test'
import { HostUnreachable, InvalidInput, NoRoom, OrchestratorError } from '../../common/errors.ts'
import { type Provider, type ProviderContext, TAG } from '../../orchestrator/backends/cloud/provider.ts'
import { createEc2, provider as kind } from '../../orchestrator/backends/cloud/providers/ec2/ec2.ts'
import { ec2Settings } from '../../orchestrator/backends/cloud/providers/ec2/settings.ts'
import { INSTALLATION, orderOf } from '../contract/provider.ts'
import { providerContext } from '../support/clouds.ts'

const never = new AbortController().signal
type Answer = { readonly status: number; readonly body: string; readonly headers?: Record<string, string> }

const failure = (code: string, message: string, status = 400): Answer => ({
  status,
  body: `<Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>0</RequestID></Response>`,
})
const success = (action: string, inside = ''): Answer => ({
  status: 200,
  body: `<${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15"><requestId>0</requestId>${inside}</${action}Response>`,
})
const SUBNET =
  '<subnetSet><item><subnetId>subnet-0a</subnetId><vpcId>vpc-0a</vpcId><availabilityZone>eu-central-1a</availabilityZone><ipv6CidrBlockAssociationSet><item><ipv6CidrBlock>2001:db8:5::/64</ipv6CidrBlock><ipv6CidrBlockState><state>associated</state></ipv6CidrBlockState></item></ipv6CidrBlockAssociationSet></item></subnetSet>'

function machineXml(given: { id: string; state: string; reason?: string; launched?: string }): string {
  const tags = { [TAG.installation]: INSTALLATION, [TAG.instance]: 'i00000000001', [TAG.generation]: '1' }
  const tagSet = Object.entries(tags).map(([k, v]) => `<item><key>${k}</key><value>${v}</value></item>`)
  const [code = ''] = (given.reason ?? '').split(':')
  return `<item><reservationId>r-1</reservationId><instancesSet><item><instanceId>${given.id}</instanceId><instanceState><code>0</code><name>${given.state}</name></instanceState><launchTime>${given.launched ?? new Date().toISOString()}</launchTime><stateReason><code>${code}</code><message>${given.reason ?? ''}</message></stateReason><tagSet>${tagSet.join('')}</tagSet></item></instancesSet></item>`
}

/** What moto never answers: errors in EC2's own words ("Error codes for the Amazon EC2 API"), over HTTP as EC2 sends them. */
describe('ec2: what it refuses', () => {
  let server: Server
  let answers: Record<string, Answer | ((body: URLSearchParams) => Answer)>
  let seen: URLSearchParams[]
  let signedBy: string[]
  before(async () => {
    server = createServer((request, response) => {
      void text(request).then((body) => {
        const asked = new URLSearchParams(body)
        seen.push(asked)
        signedBy.push(/Credential=([^/]+)/.exec(request.headers.authorization ?? '')?.[1] ?? '')
        const told =
          answers[asked.get('Action') ?? ''] ?? failure('InvalidAction', `no answer for ${asked.get('Action')}`)
        const { status, headers, body: xml } = typeof told === 'function' ? told(asked) : told
        response.writeHead(status, { 'content-type': 'text/xml', ...headers }).end(xml)
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  })
  after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  beforeEach(() => {
    seen = []
    signedBy = []
    answers = {
      DescribeInstances: success('DescribeInstances', '<reservationSet/>'),
      DescribeSubnets: success('DescribeSubnets', SUBNET),
      DescribeSecurityGroups: success('DescribeSecurityGroups', '<securityGroupInfo/>'),
      CreateSecurityGroup: success('CreateSecurityGroup', '<return>true</return><groupId>sg-0a</groupId>'),
      AuthorizeSecurityGroupIngress: success('AuthorizeSecurityGroupIngress', '<return>true</return>'),
    }
  })

  const open = (context: Partial<ProviderContext> = {}, settings: Record<string, unknown> = {}): Provider => {
    const { port } = server.address() as AddressInfo
    return createEc2(
      ec2Settings.parse({
        region: 'eu-central-1',
        endpoint: `http://127.0.0.1:${port}`,
        subnet: 'subnet-0a',
        ...settings,
      }),
      providerContext({
        target: 'frankfurt',
        installation: INSTALLATION,
        credential: async () => ({ accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' }),
        ...context,
      }),
      { answerMs: 5000 },
    )
  }
  const order = () => orderOf({ size: 't3.micro', image: 'ami-0123' }, 1)
  const refusedWith = async (answer: Answer): Promise<OrchestratorError> => {
    answers['RunInstances'] = answer
    const provider = open()
    try {
      await provider.create(order(), never)
    } catch (error) {
      assert.ok(error instanceof OrchestratorError, String(error))
      return error
    } finally {
      await provider.close()
    }
    assert.fail('it was not refused')
  }

  it('tells where there is no room', async () => {
    for (const code of [
      'InstanceLimitExceeded',
      'VcpuLimitExceeded',
      'InsufficientInstanceCapacity',
      'InsufficientHostCapacity',
      'InsufficientFreeAddressesInSubnet',
      'MaxSpotInstanceCountExceeded',
      'SpotMaxPriceTooLow',
      'VolumeLimitExceeded',
      'NetworkInterfaceLimitExceeded',
    ]) {
      const error = await refusedWith(failure(code, 'no more', code.startsWith('Insufficient') ? 500 : 400))
      assert.ok(error instanceof NoRoom, `${code}: ${error.code}`)
      assert.match(error.message, new RegExp(code))
    }
  })

  it('tells whether the credential is wrong or has expired, and that no retry helps', async () => {
    for (const [code, words] of [
      ['AuthFailure', /orctl credential/],
      ['InvalidClientTokenId', /orctl credential/],
      ['SignatureDoesNotMatch', /orctl credential/],
      ['ExpiredToken', /expired/],
      ['RequestExpired', /expired/],
      ['Blocked', /orctl credential/],
    ] as const) {
      const error = await refusedWith(failure(code, 'no', 401))
      assert.deepEqual([error.code, error.retryable], ['credential-refused', false], code)
      assert.match(error.message, words)
    }
  })

  it('names the right that is missing, also where it is one of another service', async () => {
    const encoded = 'You are not authorized to perform this operation. Encoded authorization failure message: AAAAbbbb'
    const own = await refusedWith(failure('UnauthorizedOperation', encoded, 403))
    assert.deepEqual([own.code, own.retryable], ['not-permitted', false])
    assert.match(own.message, /ec2:RunInstances/)
    assert.doesNotMatch(own.message, /AAAAbbbb/)
    const passing =
      'User: arn:aws:iam::1:user/a is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/b'
    assert.match((await refusedWith(failure('UnauthorizedOperation', passing, 403))).message, /iam:PassRole/)
    assert.match((await refusedWith(failure('OptInRequired', 'no', 401))).message, /enable the region/)
  })

  it('names the setting or option that is unknown', async () => {
    for (const [code, message, field] of [
      ['InvalidAMIID.NotFound', "The image id '[ami-0123]' does not exist", 'options.image'],
      ['InvalidAMIID.Malformed', 'Invalid id', 'options.image'],
      ['InvalidAMIID.Unavailable', 'it is unavailable', 'options.image'],
      ['InvalidParameterValue', 'Invalid value for InstanceType: t3.micro', 'options.size'],
      [
        'Unsupported',
        'Your requested instance type is not supported in your requested Availability Zone',
        'options.size',
      ],
      ['InvalidKeyPair.NotFound', 'The key pair does not exist', 'settings.provider.keyName'],
      [
        'InvalidParameterValue',
        'Value (x) for parameter iamInstanceProfile.name is invalid',
        'settings.provider.instanceProfile',
      ],
      ['InvalidSubnetID.NotFound', 'The subnet ID does not exist', 'settings.provider.subnet'],
      ['InvalidUserData.Malformed', 'Invalid BASE64 encoding of user data', 'services'],
    ] as const) {
      const error = await refusedWith(failure(code, message))
      assert.ok(error instanceof InvalidInput, `${code}: ${error.code}: ${error.message}`)
      assert.equal(error.field, field, code)
    }
  })

  it('waits when it asks too often, as long as it is told, and lets all others wait', async () => {
    const limited = await refusedWith(failure('RequestLimitExceeded', 'Request limit exceeded.', 503))
    assert.deepEqual([limited.code, limited.retryable, limited.retryAfterMs], ['rate-limited', true, 5000])
    const told = await refusedWith({ ...failure('Throttling', 'slow down'), headers: { 'retry-after': '7' } })
    assert.deepEqual([told.code, told.retryAfterMs], ['rate-limited', 7000])
    const provider = open()
    answers['DescribeInstances'] = failure('RequestLimitExceeded', 'Request limit exceeded.', 503)
    await assert.rejects(provider.list(never), /no more calls/)
    const calls = seen.length
    await assert.rejects(
      provider.list(never),
      (error) => error instanceof OrchestratorError && error.code === 'rate-limited',
    )
    assert.equal(seen.length, calls)
    await provider.close()
  })

  it('says that it could not ask when EC2 itself fails', async () => {
    for (const answer of [
      failure('InternalError', 'An internal error has occurred', 500),
      failure('Unavailable', 'The server is overloaded', 503),
      { status: 502, body: '<html>bad gateway</html>' },
      { status: 200, body: 'not XML at all' },
    ]) {
      assert.ok((await refusedWith(answer)) instanceof HostUnreachable, answer.body)
    }
  })

  it('ends a call that is not answered in time, and says so', async () => {
    const { port } = server.address() as AddressInfo
    const silent = createServer(() => {})
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
    const context = providerContext({
      target: 'frankfurt',
      installation: INSTALLATION,
      credential: async () => ({ accessKeyId: 'a', secretAccessKey: 'b' }),
    })
    const provider = createEc2(ec2Settings.parse({ region: 'eu-central-1', endpoint }), context, { answerMs: 50 })
    await assert.rejects(
      provider.list(never),
      (error) => error instanceof HostUnreachable && /50 ms/.test(error.message),
    )
    await provider.close()
    silent.closeAllConnections()
    await new Promise((resolve) => silent.close(resolve))
    assert.ok(port > 0)
  })

  it('asks with the same token until the machine has ended, and with another one then', async () => {
    answers['RunInstances'] = failure('InternalError', 'no', 500)
    const provider = open()
    for (let n = 0; n < 2; n++) await assert.rejects(provider.create(order(), never), HostUnreachable)
    const ended = machineXml({ id: 'i-1', state: 'terminated', reason: 'Server.SpotInstanceTermination: taken' })
    answers['DescribeInstances'] = success('DescribeInstances', `<reservationSet>${ended}</reservationSet>`)
    await assert.rejects(provider.create(order(), never), HostUnreachable)
    const tokens = seen.filter((body) => body.get('Action') === 'RunInstances').map((body) => body.get('ClientToken'))
    assert.equal(tokens.length, 3)
    assert.equal(tokens[0], tokens[1])
    assert.notEqual(tokens[1], tokens[2])
    assert.match(tokens[0] ?? '', /^[0-9a-f]{64}$/)
    await provider.close()
  })

  it('comes again when the token is known with other parameters: a machine is on its way', async () => {
    const error = await refusedWith(
      failure('IdempotentParameterMismatch', 'The client token you have provided is associated with…'),
    )
    assert.deepEqual([error.code, error.retryable], ['machine-pending', true])
  })

  it('stops making machines that end by themselves, and says why they do', async () => {
    const reason = 'Client.VolumeLimitExceeded: Volume limit exceeded'
    const all = [1, 2, 3].map((n) => machineXml({ id: `i-${n}`, state: 'terminated', reason }))
    answers['DescribeInstances'] = success('DescribeInstances', `<reservationSet>${all.join('')}</reservationSet>`)
    const provider = open()
    await assert.rejects(provider.create(order(), never), (error) => {
      assert.ok(error instanceof OrchestratorError && error.retryable && (error.retryAfterMs ?? 0) > 60_000)
      assert.match(error.message, /VolumeLimitExceeded/)
      return true
    })
    assert.ok(!seen.some((body) => body.get('Action') === 'RunInstances'))
    await provider.close()
  })

  it('tells of a machine that EC2 ended at once, while that is news, and hides those that ended as they should', async () => {
    const reason = 'Server.InsufficientInstanceCapacity: Insufficient capacity'
    const all = [
      machineXml({ id: 'i-news', state: 'terminated', reason }),
      machineXml({ id: 'i-old', state: 'terminated', reason, launched: '2026-01-01T00:00:00Z' }),
      machineXml({
        id: 'i-ours',
        state: 'terminated',
        reason: 'Client.UserInitiatedShutdown: User initiated shutdown',
      }),
    ]
    answers['DescribeInstances'] = success('DescribeInstances', `<reservationSet>${all.join('')}</reservationSet>`)
    answers['TerminateInstances'] = success('TerminateInstances', '<instancesSet/>')
    const provider = open()
    const listed = await provider.list(never)
    assert.deepEqual(
      listed.map(({ id, state, noRoom }) => [id, state, noRoom]),
      [['i-news', 'failed', true]],
    )
    await provider.delete('i-news', never)
    assert.deepEqual(
      (await provider.list(never)).map(({ state }) => state),
      ['ending'],
    )
    await provider.close()
  })

  it('lists a machine that was just made although EC2 does not show it yet, and does not take it for gone', async () => {
    const made = machineXml({ id: 'i-fresh', state: 'pending' }).replace(
      /^<item><reservationId>r-1<\/reservationId>|<\/item>$/g,
      '',
    )
    answers['RunInstances'] = success('RunInstances', made)
    answers['TerminateInstances'] = failure('InvalidInstanceID.NotFound', 'The instance ID does not exist')
    const provider = open()
    const { id } = await provider.create(order(), never)
    assert.deepEqual(
      (await provider.list(never)).map((machine) => [machine.id, machine.state]),
      [['i-fresh', 'starting']],
    )
    assert.equal((await provider.create(order(), never)).id, id)
    await assert.rejects(provider.delete(id, never), (error) => error instanceof OrchestratorError && error.retryable)
    await provider.delete('i-never-seen', never)
    await provider.close()
  })

  it('signs with the keys that hold now', async () => {
    let accessKeyId = 'AKIDFIRST'
    const provider = open({
      credential: async () => ({ accessKeyId, secretAccessKey: 'secret', sessionToken: 'token' }),
    })
    await provider.list(never)
    accessKeyId = 'AKIDSECOND'
    await provider.list(never)
    assert.deepEqual(signedBy, ['AKIDFIRST', 'AKIDSECOND'])
    await provider.close()
  })

  it('concludes nothing from pages that lead in a circle', async () => {
    answers['DescribeInstances'] = success('DescribeInstances', '<reservationSet/><nextToken>same</nextToken>')
    const provider = open()
    await assert.rejects(provider.list(never), (error) => {
      assert.ok(error instanceof OrchestratorError && error.code === 'provider-answer' && error.retryable)
      return true
    })
    await provider.close()
  })

  it('names a setting that is wrong, before any call', () => {
    const context = providerContext({ target: 't', installation: INSTALLATION, credential: async () => ({}) })
    for (const [field, settings] of [
      ['settings.provider.region', { region: 'Frankfurt' }],
      ['settings.provider.region', {}],
      ['settings.provider.subnet', { region: 'eu-central-1', subnet: 'my-subnet' }],
      ['settings.provider.keyname', { region: 'eu-central-1', keyname: 'a' }],
    ] as const) {
      assert.throws(
        () => kind.create(settings, context),
        (error) => error instanceof InvalidInput && error.field === field,
        field,
      )
    }
  })
})
