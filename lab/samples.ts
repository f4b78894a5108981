import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { InstanceDetailShape } from '../orchestrator/api/wire.ts'
import type { DhcpClient } from './clients.ts'
import { LabError, waitFor } from './command.ts'
import { LAB_NETWORK } from './namespaces.ts'
import { runDirectory, SOURCE_DIRECTORY } from './places.ts'
import { launch } from './processes.ts'

/** Where the samples' templates are: a folder each. */
export const SAMPLES_DIRECTORY = join(SOURCE_DIRECTORY, 'docs/samples')

/**
 * A rule by which matching leases become a sample, with what the sample asks for.
 * @param match as in a rules file
 * @param lifetime likewise; without it, the sample's own
 */
export function sampleRule(name: string, match: object, lifetime?: object): object {
  const parameters = name === 'challenge' ? { FLAG } : {}
  return { name, match, give: { template: name, parameters, ...(lifetime ? { lifetime } : {}) } }
}
const FLAG = 'flag{plugged-in-and-found}'

/** Uses an instance as its owner would. @returns what was done, in a sentence @throws LabError when it is not as promised */
type Visit = (client: DhcpClient, instance: InstanceDetailShape) => Promise<string>

const url = `http://my.${LAB_NETWORK.domain}/`
const PATIENCE_MS = 30_000

/** How each sample is used; the keys are the samples' names. */
export const SAMPLES: Readonly<Record<string, Visit>> = {
  async 'personal-page'(client, instance) {
    const page = await client.get(url)
    must(page.body.includes(`content="${instance.id}"`), `${url} is not the page of ${instance.id}: ${page.body}`)
    must(instance.outputs?.['url'] === `http://[${instance.address}]/`, `it told ${JSON.stringify(instance.outputs)}`)
    return `opened ${url}, its own, which told its address: ${String(instance.outputs?.['url'])}`
  },

  async notepad(client, instance) {
    const body = 'note=milk%20%26%20bread'
    const posted = await http(client, instance, `POST / HTTP/1.1\r\nContent-Length: ${body.length}\r\n`, body)
    must(posted.startsWith('HTTP/1.0 303'), posted)
    const page = await client.get(url)
    must(page.body.includes('milk &amp; bread'), page.body)
    must(instance.endsAt !== null, 'it has no end')
    return `wrote a note at ${url} and read it again; it destroys itself at ${instance.endsAt}`
  },

  async 'web-shell'(client, instance) {
    const tell = (fields: string) => {
      const type = 'Content-Type: application/x-www-form-urlencoded; charset=utf-8'
      return http(client, instance, `POST / HTTP/1.1\r\n${type}\r\nContent-Length: ${fields.length}\r\n`, fields)
    }
    const ask = async (fields: string) => {
      const answer = await tell(fields)
      const json = /\{.*\}/s.exec(answer)?.[0]
      if (json === undefined) throw new LabError('wrong-answer', answer)
      return JSON.parse(json) as { session?: string; data?: string }
    }
    const { session } = await ask('width=80&height=24&rooturl=%2F')
    must(session !== undefined, 'the shell opened no session')
    // "id -un; pwd" and Enter, as keys: bytes in hex.
    await tell(
      `width=80&height=24&session=${session}&keys=${Buffer.from('id -un; pwd\r').toString('hex').toUpperCase()}`,
    )
    let seen = ''
    await waitFor(
      'the shell to answer',
      async () => {
        seen += (await ask(`width=80&height=24&session=${session}`)).data ?? ''
        return /guest\s+\/home\/guest/.test(seen)
      },
      { timeoutMs: PATIENCE_MS },
    )
    return `typed "id -un; pwd" into the shell at ${url}: guest, /home/guest`
  },

  async challenge(client, instance) {
    const board = await client.get(url)
    must(board.body.includes('Welcome to the board'), board.body)
    const found = await client.get(`${url}?key=flag`)
    const flag = /flag\{[^}]*\}/.exec(found.body)?.[0]
    must(flag === FLAG, found.body)
    const database = await client.agent.call('dial', { address: instance.address, port: 6379, timeoutMs: 500 })
    must(database !== 'accepted', 'the database can be reached from outside')
    return `solved it at ${url}?key=flag: ${flag}; the database itself: ${database}`
  },

  async vpn(client, instance) {
    const profile = await client.get(`${url}client.ovpn`)
    must(profile.body.includes('<tls-crypt>'), profile.body)
    must(instance.outputs?.['profile'] !== undefined, 'it told no profile')
    const file = join(runDirectory(client.prefix, 'clients', `c${client.number}`), 'client.ovpn')
    writeFileSync(file, profile.body, { mode: 0o600 })
    const tunnel = launch(client.prefix, {
      name: `openvpn-c${client.number}`,
      namespace: client.namespace,
      command: ['openvpn', '--config', file],
    })
    try {
      const address = await waitFor(
        'the tunnel',
        async () => {
          const shown = await client.run(['ip', '-6', '-brief', 'address', 'show', 'dev', 'tun0']).catch(() => '')
          return /(fd[0-9a-f:]+)\/64/.exec(shown)?.[1]
        },
        { timeoutMs: PATIENCE_MS },
      )
      const server = address.replace(/::[0-9a-f]+$/, '::1')
      const outcome = await client.agent.call('dial', { address: server, port: 80, from: address, timeoutMs: 5000 })
      must(outcome === 'accepted', `through the tunnel to [${server}]:80: ${outcome}`)
      return `took its profile from ${url}client.ovpn, got ${address} in the tunnel, and reached ${server} through it`
    } finally {
      await tunnel.stop()
    }
  },

  async 'iot-broker'(client, instance) {
    // MQTT 3.1.1 (OASIS): CONNECT, SUBSCRIBE to "t", PUBLISH "22.5" to "t"; the broker sends it back to its subscriber.
    const connect = [0x10, 0x0d, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 60, 0, 1, 0x64]
    const subscribe = [0x82, 6, 0, 1, 0, 1, 0x74, 0]
    const publish = [0x30, 7, 0, 1, 0x74, ...Buffer.from('22.5')]
    const send = Buffer.from([...connect, ...subscribe, ...publish]).toString('base64')
    await client.agent.call('exchange', {
      ...{ address: instance.address, port: 1883, send, until: '0\u0007\u0000\u0001t22.5' },
      timeoutMs: PATIENCE_MS,
    })
    return `published 22.5 to the broker at ${String(instance.outputs?.['broker'])} and heard it from there`
  },
}

/** One HTTP request by hand, for what a page fetch cannot do. @returns the answer, head and body */
async function http(client: DhcpClient, { address }: InstanceDetailShape, head: string, body: string): Promise<string> {
  const text = `${head}Host: my.${LAB_NETWORK.domain}\r\nConnection: close\r\n\r\n${body}`
  const send = Buffer.from(text).toString('base64')
  const answer = await client.agent.call('exchange', { address, port: 80, send, timeoutMs: PATIENCE_MS })
  return Buffer.from(answer, 'base64').toString('utf8')
}

function must(promise: boolean, otherwise: string): asserts promise {
  if (!promise) throw new LabError('not-as-promised', otherwise)
}
