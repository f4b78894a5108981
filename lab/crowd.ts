import { join } from 'node:path'
import { LabError, run, waitFor } from './command.ts'
import type { CrowdVerbs, Device, DeviceAnswer } from './crowd-agent.ts'
import type { ClientMessage } from './dhcpv6.ts'
import { clientNamespace, hostNamespace, LAB_NETWORK, makeClient, removeNamespace } from './namespaces.ts'
import type { Page, Target } from './probes.ts'
import { Remote } from './remote.ts'

/**
 * Many devices behind one link, for bursts that a hundred dhcpcd on a small machine would only slow down: a small client
 * of our own that sends real DHCPv6 packets for all of them to the real dnsmasq, and answers at their addresses.
 */
export class Crowd {
  readonly prefix: string
  readonly number: number
  readonly namespace: string
  #remote: Remote<CrowdVerbs> | undefined

  /** @param number of its link, from 1 to 65,535, not that of another client */
  constructor(prefix: string, number: number) {
    this.prefix = prefix
    this.number = number
    this.namespace = clientNamespace(prefix, number)
  }

  /** `count` devices with DUIDs of their own (RFC 8415 DUID-EN, private), the same from run to run. */
  devices(count: number, first = 1): Device[] {
    return Array.from({ length: count }, (_, i) => {
      const n = first + i
      const tail = (n.toString(16).padStart(4, '0').match(/../g) ?? []).join(':')
      return { duid: `00:02:00:00:00:09:c0:${tail}`, iaid: n, hostname: `crowd-${n}` }
    })
  }

  async plug(signal?: AbortSignal): Promise<this> {
    await makeClient(this.prefix, this.number, false, signal)
    const routes = [
      `route replace ${LAB_NETWORK.clientsPrefix} dev eth0`,
      `route replace default via ${LAB_NETWORK.clientsGateway} dev eth0`,
    ]
    await run('ip', ['-n', this.namespace, '-6', '-batch', '-'], { input: `${routes.join('\n')}\n`, signal })
    await waitFor(`the link of ${this.namespace}`, () => this.#hasLinkLocal(), { signal })
    this.#remote = new Remote<CrowdVerbs>(this.prefix, {
      name: `crowd-c${this.number}`,
      namespace: this.namespace,
      script: join(import.meta.dirname, 'crowd-agent.ts'),
    })
    await this.#remote.ready()
    return this
  }

  /** All of them take a lease at once; each answers at its address before this resolves. */
  async take(devices: readonly Device[]): Promise<DeviceAnswer[]> {
    const answers = await this.say('solicit', devices)
    const lines = answers.flatMap(({ address }) =>
      address === null ? [] : [`address replace ${address}/128 dev eth0 nodad`],
    )
    await run('ip', ['-n', this.namespace, '-6', '-batch', '-'], { input: `${lines.join('\n')}\n` })
    const wanted = answers.flatMap(({ address }) => (address === null ? [] : [address]))
    await waitFor(`the addresses of ${this.namespace}`, () => this.#listensAt(wanted))
    return answers
  }

  /** All of them give their lease back at once. Their addresses stay on the link: a late packet is a test too. */
  async release(devices: readonly Device[]): Promise<DeviceAnswer[]> {
    return await this.say('release', devices)
  }

  /** One message from each of them at once. @throws LabError when one of them gets no answer */
  async say(type: ClientMessage['type'], devices: readonly Device[]): Promise<DeviceAnswer[]> {
    return await this.#agent.call('ask', { type, devices })
  }

  /** When the target first accepts a connection from one of the devices, epoch ms. */
  async reachable(target: Target & { readonly deadlineMs: number }): Promise<number> {
    return await this.#agent.call('reachable', target)
  }
  /** One attempt to connect, as one of the devices: `accepted`, `refused`, `silent`, or an error's code. */
  async dial(target: Target & { readonly timeoutMs: number }): Promise<string> {
    return await this.#agent.call('dial', target)
  }
  /** A page by address, as one of the devices: the crowd has no resolver. */
  async get(from: string, url: string, timeoutMs = 5000): Promise<Page> {
    return await this.#agent.call('page', { from, url, timeoutMs })
  }

  async unplug(): Promise<void> {
    await this.#remote?.stop()
    await run('ip', ['-n', hostNamespace(this.prefix), 'link', 'delete', 'dev', `c${this.number}`])
    await removeNamespace(this.namespace)
  }

  get #agent(): Remote<CrowdVerbs> {
    if (this.#remote === undefined) throw new LabError('not-plugged', `${this.namespace} is not plugged in`)
    return this.#remote
  }

  /**
   * The kernel acknowledges an address some time before it takes packets for it; a neighbour solicitation in between is
   * lost, and repeated only a second later.
   */
  async #listensAt(addresses: readonly string[]): Promise<boolean> {
    const routes = await run('ip', ['-n', this.namespace, '-6', 'route', 'show', 'table', 'local'])
    const local = new Set(routes.split('\n').map((line) => line.split(' ')[1]))
    return addresses.every((address) => local.has(address))
  }

  async #hasLinkLocal(): Promise<boolean> {
    const shown = await run('ip', [
      '-n',
      this.namespace,
      '-6',
      'address',
      'show',
      'dev',
      'eth0',
      'scope',
      'link',
      '-tentative',
    ])
    return shown.includes('fe80:')
  }
}
