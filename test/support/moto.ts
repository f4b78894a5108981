import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'
import type { PassingCall } from './faults.ts'
import { until } from './until.ts'

/** moto's server, which answers like AWS: `test/ec2/run.sh` installs it and says where. */
export interface Moto {
  readonly url: string
  /** All that it holds is forgotten. */
  reset(): Promise<void>
  /** Machines, groups and networks that carry our tag, in a few words each. */
  things(): Promise<readonly string[]>
  /** The instance that each machine is for, as its tag says. */
  instances(): Promise<readonly string[]>
  close(): Promise<void>
}

export async function startMoto(): Promise<Moto> {
  const command = process.env['MOTO_SERVER']
  if (command === undefined) throw new Error('MOTO_SERVER is not set: run these tests with npm run test:ec2')
  const port = await freePort()
  const server = spawn(command, ['-H', '127.0.0.1', '-p', String(port)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    // Off unless asked for: it takes any name for a size, an image and a key pair.
    env: {
      ...process.env,
      MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION: 'true',
      MOTO_ENABLE_AMI_VALIDATION: 'true',
      MOTO_ENABLE_KEYPAIR_VALIDATION: 'true',
    },
  })
  let said = ''
  server.stderr.on('data', (text) => {
    said = `${said}${text}`.slice(-4000)
  })
  const url = `http://127.0.0.1:${port}`
  await until(
    'moto answers',
    async () => {
      if (server.exitCode !== null) throw new Error(`moto ended: ${said}`)
      return (await fetch(`${url}/moto-api/data.json`)).ok
    },
    { deadlineMs: 60_000, everyMs: 50 },
  )
  return {
    url,
    async reset() {
      const answer = await fetch(`${url}/moto-api/reset`, { method: 'POST' })
      if (!answer.ok) throw new Error(`moto did not reset: ${answer.status}`)
    },
    things: async () => (await Promise.all(KINDS.map((kind) => thingsOf(url, kind)))).flat(),
    async instances() {
      const machines = reservations(await described(url, 'DescribeInstances')).filter(isThere)
      return machines.map((text) => /<key>orchestrator-instance<\/key>\s*<value>([^<]+)</.exec(text)?.[1] ?? 'none')
    },
    close: () => ended(server),
  }
}

/** A list as it was earlier, or without anything in it; null: it is no list. */
export function wrongPage({ body }: PassingCall, text: string, earlier: string | undefined): string | null {
  if (!/Action=Describe/.test(body)) return null
  const empty = text.replace(/<(\w+Set)>.*<\/\1>/s, '<$1/>')
  if (empty === text) return null
  return earlier !== undefined && earlier !== text ? earlier : empty
}

const KINDS = [
  ...['DescribeInstances', 'DescribeSecurityGroups', 'DescribeSubnets', 'DescribeInternetGateways', 'DescribeVpcs'],
]

/** What moto itself tells of what carries our tag, beside our adapter. */
async function described(url: string, Action: string): Promise<string> {
  const scope = 'Credential=AKID/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0'
  const filter = { 'Filter.1.Name': 'tag-key', 'Filter.1.Value.1': 'orchestrator-installation' }
  const answer = await fetch(url, {
    method: 'POST',
    headers: { authorization: `AWS4-HMAC-SHA256 ${scope}` },
    body: new URLSearchParams({ Action, Version: '2016-11-15', ...filter }),
  })
  return await answer.text()
}

/** Each machine is a reservation of its own. */
function reservations(text: string): readonly string[] {
  return text.split('<reservationId>').slice(1)
}

function isThere(reservation: string): boolean {
  return !/<instanceState>.*?<name>terminated</s.test(reservation)
}

async function thingsOf(url: string, kind: string): Promise<readonly string[]> {
  const text = await described(url, kind)
  if (kind === 'DescribeInstances')
    return reservations(text)
      .filter(isThere)
      .map((one) => `machine ${idIn(one)}`)
  const others = text.matchAll(/<(?:groupName|subnetId|internetGatewayId|vpcId)>([^<]+)</g)
  return [...others].map(([, id]) => `${kind} ${id}`)
}

function idIn(reservation: string): string {
  return /<instanceId>([^<]+)</.exec(reservation)?.[1] ?? ''
}

function ended(server: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (server.exitCode !== null || server.signalCode !== null) return resolve()
    server.once('exit', () => resolve())
    server.kill('SIGKILL')
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = createServer()
    socket.once('error', reject)
    socket.listen(0, '127.0.0.1', () => {
      const address = socket.address()
      socket.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
