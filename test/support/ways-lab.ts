import { type Agent, WiringLab, type WiringProcess } from './wiring-lab.ts'

/** Addresses of the home host on the links to others, and of these. */
export const HOME = { onMachineLink: 'fd00:9::1', onCloudLink: 'fd00:8::1' } as const
export const MACHINE = 'fd00:9::2'
export const CLOUD = 'fd00:8::80'

/**
 * A home host with clients; a machine behind it on which the wiring runs as well; and a server in a cloud, whose own filter
 * admits only one address of the home host. Each in a network namespace of its own.
 */
export class WaysLab implements AsyncDisposable {
  readonly home: WiringLab
  readonly machine: WiringLab
  readonly #cloud: WiringLab
  readonly #ours: readonly WiringLab[]

  private constructor(home: WiringLab, machine: WiringLab, cloud: WiringLab, ours: readonly WiringLab[]) {
    this.home = home
    this.machine = machine
    this.#cloud = cloud
    this.#ours = ours
  }

  /** @param given the home host, where there is one already: it outlives this */
  static async start(given?: WiringLab): Promise<WaysLab> {
    const home = given ?? (await WiringLab.start())
    const machine = await WiringLab.start({ bare: true, name: 'machine' })
    const cloud = await WiringLab.start({ bare: true, name: 'cloud' })
    for (const other of [machine, cloud]) {
      other.run('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0')
      other.run('ip', 'link', 'set', 'lo', 'up')
    }
    connect(home, HOME.onMachineLink, machine, MACHINE, 'to-machine')
    connect(home, HOME.onCloudLink, cloud, CLOUD, 'to-cloud')
    machine.run('ip', 'link', 'add', 'br-instances', 'type', 'bridge')
    machine.run('ip', 'link', 'set', 'br-instances', 'up')
    machine.run('ip', 'address', 'add', 'fd00:1::1/64', 'dev', 'br-instances', 'nodad')
    // It could answer anybody, so that what is refused is refused by a filter.
    cloud.run('ip', '-6', 'route', 'add', 'default', 'via', HOME.onCloudLink)
    return new WaysLab(home, machine, cloud, given ? [machine, cloud] : [home, machine, cloud])
  }

  /** A process that answers in the cloud, as `cloud`. */
  cloud(): Promise<Agent> {
    return this.#cloud.onHost('cloud', CLOUD)
  }

  /** What a security group does: from now on the cloud admits this address alone. */
  admit(address: string): void {
    this.#cloud.run('nft', 'add table inet group; delete table inet group; add table inet group')
    this.#cloud.run('nft', 'add chain inet group in { type filter hook input priority 0; policy accept; }')
    this.#cloud.run('nft', `add rule inet group in meta l4proto tcp ip6 saddr != ${address} drop`)
    this.#cloud.run('nft', `add rule inet group in meta l4proto udp ip6 saddr != ${address} drop`)
    this.#cloud.run('nft', `add rule inet group in icmpv6 type echo-request ip6 saddr != ${address} drop`)
  }

  /** The routes that the wiring has made on a host, as `to via`. */
  static routes(host: WiringLab): string[] {
    const all = JSON.parse(host.run('ip', '-6', '-j', 'route', 'show', 'proto', '118')) as Record<string, string>[]
    return all.map(({ dst, gateway }) => `${dst} ${gateway}`).sort()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const lab of this.#ours) await lab[Symbol.asyncDispose]()
  }
}

/** Waits for a wiring that takes calls. */
export async function prepared(lab: WiringLab): Promise<WiringProcess> {
  const wiring = await lab.wiring()
  await wiring.prepare()
  return wiring
}

function connect(home: WiringLab, near: string, other: WiringLab, far: string, name: string): void {
  home.run('ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'to-home', 'netns', other.host)
  for (const [lab, link, address] of [
    [home, name, near],
    [other, 'to-home', far],
  ] as const) {
    lab.run('ip', 'link', 'set', link, 'up')
    lab.run('ip', 'address', 'add', `${address}/64`, 'dev', link, 'nodad')
  }
}
