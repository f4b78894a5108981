import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AgentVerbs } from './agent.ts'
import { LabError, run, waitFor } from './command.ts'
import {
  clientNamespace,
  commandLine,
  hostNamespace,
  inNamespace,
  makeClient,
  processesIn,
  removeNamespace,
} from './namespaces.ts'
import { runDirectory } from './places.ts'
import type { Page } from './probes.ts'
import { type LabProcess, launch, quoted } from './processes.ts'
import { Remote } from './remote.ts'

/** What a device tells the DHCPv6 server about itself, and how hurried it is. */
export interface ClientOptions {
  readonly hostname?: string
  /** Colon-separated hex; unless told, a DUID-LL made of the link's MAC address. It stays the same from run to run. */
  readonly duid?: string
  /** 1 unless told. */
  readonly iaid?: number
  /** False: no duplicate address detection, which makes a device wait 1 s after its lease (RFC 4862). True unless told. */
  readonly detectDuplicates?: boolean
}

export interface ClientLease {
  readonly address: string
  /** Seconds that it is valid for, when asked. */
  readonly validSeconds: number
  readonly resolvers: readonly string[]
}

/** Address flags of /proc/net/if_inet6 (linux/if_addr.h). */
const IFA_F_TENTATIVE = 0x40

/** A device: a namespace with its own link, and a real dhcpcd that asks the real dnsmasq. */
export class DhcpClient {
  readonly prefix: string
  readonly number: number
  readonly namespace: string
  readonly hostname: string
  readonly duid: string
  readonly iaid: number
  readonly #folder: string
  readonly #options: ClientOptions
  #dhcpcd: LabProcess | undefined
  #agent: Remote<AgentVerbs> | undefined

  /** @param number from 1 to 65,535, unique in the lab */
  constructor(prefix: string, number: number, options: ClientOptions = {}) {
    const mac = [number >> 8, number & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
    this.prefix = prefix
    this.number = number
    this.namespace = clientNamespace(prefix, number)
    this.hostname = options.hostname ?? `device-${number}`
    this.duid = options.duid ?? `00:03:00:01:02:00:00:01:${mac}`
    this.iaid = options.iaid ?? 1
    this.#options = options
    this.#folder = runDirectory(prefix, 'clients', `c${number}`)
  }

  /** Plugs it in: makes its namespace and link. It asks for nothing yet. */
  async plug(signal?: AbortSignal): Promise<this> {
    await makeClient(this.prefix, this.number, this.#options.detectDuplicates ?? true, signal)
    mkdirSync(join(this.#folder, 'dhcpcd'), { recursive: true })
    writeFileSync(this.#path('resolv.conf'), '', { flag: 'a' })
    writeFileSync(this.#path('dhcpcd.conf'), this.#configuration())
    this.#agent = new Remote<AgentVerbs>(this.prefix, {
      name: `agent-c${this.number}`,
      namespace: this.namespace,
      prepare: this.#ownResolver(),
      script: join(import.meta.dirname, 'agent.ts'),
    })
    await this.#agent.ready()
    return this
  }

  /** Starts dhcpcd: from now on the device asks for a lease, and keeps it. @returns epoch ms of the start */
  async request(signal?: AbortSignal): Promise<number> {
    if (this.#dhcpcd?.running) throw new LabError('running', `${this.namespace} asks for leases already`)
    await this.#linkIsReady(signal)
    const startedAt = Date.now()
    this.#dhcpcd = launch(this.prefix, {
      name: `dhcpcd-c${this.number}`,
      namespace: this.namespace,
      // Its own /run and lease folder: a dhcpcd of the machine itself is not disturbed, nor its resolv.conf.
      prepare: `${this.#ownResolver()}
        mkdir -p /var/lib/dhcpcd
        mount --bind ${quoted(this.#path('dhcpcd'))} /var/lib/dhcpcd
        mount --bind ${quoted(this.#path('dhcpcd.conf'))} /etc/dhcpcd.conf
        mount -t tmpfs tmpfs /run`,
      command: ['dhcpcd', '--debug', '--nobackground', 'eth0'],
    })
    return startedAt
  }

  /**
   * The lease, as soon as the device can do all that it will: its address can be used (after duplicate address detection),
   * the router has been heard and the resolver is written down.
   */
  async lease(timeoutMs = 30_000, signal?: AbortSignal): Promise<ClientLease> {
    const address = await waitFor(
      `a lease of ${this.namespace} (see ${this.#dhcpcd?.logFile})`,
      () => (this.#resolvers().length > 0 && this.#hasRouter() && this.#hooksAreDone() ? this.#address() : undefined),
      { timeoutMs, signal },
    )
    const shown = JSON.parse(await this.run(['ip', '-json', '-6', 'address', 'show', 'dev', 'eth0', 'scope', 'global']))
    const known = (shown as { addr_info: { local: string; valid_life_time: number }[] }[])[0]?.addr_info
    const validSeconds = known?.find((a) => a.local === address)?.valid_life_time ?? 0
    return { address, validSeconds, resolvers: this.#resolvers() }
  }

  /** Has the lease renewed now, as at half of its time; resolves when the server has answered. */
  async renew(): Promise<void> {
    const start = this.#log().length
    const answered = /received SIGUSR1, renewing[\s\S]*RENEW6 \(xid[\s\S]*REPLY6 received from/
    await this.#tell('SIGUSR1', 'renewing', () => answered.test(this.#log().slice(start)))
  }

  /** Gives the lease back (RELEASE), as a device does that is switched off properly. */
  async release(): Promise<void> {
    if (!this.#dhcpcd?.running) return
    const dhcpcd = this.#dhcpcd
    await this.#tell('SIGALRM', 'releasing', () => !dhcpcd.running)
    writeFileSync(this.#path('resolv.conf'), '')
  }

  /** The plug is pulled: no word to anybody. Its addresses stay until the lease ends, unless it asks again. */
  async vanish(): Promise<void> {
    await this.#dhcpcd?.kill()
  }

  /** Fetches a page by name as the device's user would, with the resolver that came with the lease. */
  async get(url: string, timeoutMs = 5000): Promise<Page> {
    return await this.agent.call('page', { url, timeoutMs })
  }

  /** What can be done inside the device. */
  get agent(): Remote<AgentVerbs> {
    if (this.#agent === undefined) throw new LabError('not-plugged', `${this.namespace} is not plugged in`)
    return this.#agent
  }

  /** Runs a program on the device. @returns its output @throws LabError */
  async run(command: readonly string[], timeoutMs = 10_000): Promise<string> {
    const [file = '', ...args] = inNamespace(this.namespace, command)
    return await run(file, args, { timeoutMs })
  }

  /** Ends everything on the device and takes it away. Its DUID is its own again when it is plugged in once more. */
  async unplug(): Promise<void> {
    await this.#agent?.stop()
    await this.#dhcpcd?.kill()
    // The link first: removing a namespace takes its links along only some time later.
    await run('ip', ['-n', hostNamespace(this.prefix), 'link', 'delete', 'dev', `c${this.number}`])
    await removeNamespace(this.namespace)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #path(file: string): string {
    return join(this.#folder, file)
  }
  #ownResolver(): string {
    return `mount --bind ${quoted(this.#path('resolv.conf'))} /etc/resolv.conf`
  }

  #configuration(): string {
    return `# RFC 8415 has clients wait a random time of up to 1 s before they first ask: nodelay leaves it out.
duid ${this.duid}
ipv6only
nodelay
hostname ${this.hostname}
fqdn both
option dhcp6_name_servers, dhcp6_domain_search, rapid_commit
slaac hwaddr
interface eth0
  ipv6rs
  ia_na ${this.iaid}
`
  }

  /**
   * What `dhcpcd --renew` and `--release` do, until it is done. dhcpcd 9.4.1 may sleep on over a signal, and over what it
   * has set out to do, until something happens on the network: an address that comes and goes on loopback.
   */
  async #tell(signal: 'SIGUSR1' | 'SIGALRM', word: string, done: () => boolean): Promise<void> {
    const dhcpcd = this.#dhcpcd
    if (!dhcpcd?.running) throw new LabError('not-running', `${this.namespace} runs no dhcpcd`)
    const start = this.#log().length
    const heard = (): boolean => this.#log().includes(`received ${signal}, ${word}`, start)
    const wake = ['add', 'delete'].map((verb) => `address ${verb} fd00:dead::1/128 dev lo nodad\n`).join('')
    const look = async (): Promise<boolean> => {
      if (done()) return true
      if (!heard()) dhcpcd.signal(signal)
      await run('ip', ['-n', this.namespace, '-batch', '-'], { input: wake })
      return done()
    }
    await waitFor(`${this.namespace}: ${word} (see ${dhcpcd.logFile})`, look, { everyMs: 50 })
  }

  #log(): string {
    return this.#dhcpcd === undefined ? '' : readFileSync(this.#dhcpcd.logFile, 'utf8')
  }

  /** A default route, of /proc/net/ipv6_route: destination and its length, then source, next hop, …, device. */
  #hasRouter(): boolean {
    const routes = readFileSync(`/proc/${this.agent.process.pid}/net/ipv6_route`, 'utf8').split('\n')
    return routes.some((line) => /^0{32} 00 /.test(line) && line.endsWith('eth0'))
  }
  /** dhcpcd's scripts rewrite resolv.conf in place, once for the lease and once for the router. */
  #hooksAreDone(): boolean {
    return !processesIn(this.namespace).some((pid) => commandLine(pid).includes('dhcpcd-run-hooks'))
  }

  #resolvers(): string[] {
    const text = readFileSync(this.#path('resolv.conf'), 'utf8')
    return [...text.matchAll(/^nameserver\s+(\S+)/gm)].map((m) => m[1] ?? '')
  }

  /** The leased address that may be used: global, 128 bits, not tentative. */
  #address(): string | undefined {
    const found = this.#addresses().find((a) => a.length === 128 && a.scope === 0 && (a.flags & IFA_F_TENTATIVE) === 0)
    return found && shortened(found.hex)
  }

  /** Without a link-local address that is past its detection, a device cannot ask; one that was just plugged in waits 1 s. */
  async #linkIsReady(signal: AbortSignal | undefined): Promise<void> {
    const ready = (): boolean => this.#addresses().some((a) => a.scope === 0x20 && (a.flags & IFA_F_TENTATIVE) === 0)
    await waitFor(`the link of ${this.namespace}`, ready, { signal })
  }

  #addresses(): { readonly hex: string; readonly length: number; readonly scope: number; readonly flags: number }[] {
    return readFileSync(`/proc/${this.agent.process.pid}/net/if_inet6`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[5] === 'eth0')
      .map(([hex = '', , length = '', scope = '', flags = '']) => ({
        hex,
        length: Number.parseInt(length, 16),
        scope: Number.parseInt(scope, 16),
        flags: Number.parseInt(flags, 16),
      }))
  }
}

/** 32 hex digits as the kernel shows them -> canonical IPv6 text. */
function shortened(hex: string): string {
  return new URL(`http://[${hex.match(/.{4}/g)?.join(':')}]`).hostname.slice(1, -1)
}
