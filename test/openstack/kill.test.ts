import { after } from 'node:test'
import { OPENSTACK_KEYSTONE } from '../../lab/openstack/machine.ts'
import { backendKills, type KillSubject } from '../support/backend-kills.ts'
import { createFaults, type Faults } from '../support/faults.ts'
import { openStackSite } from '../support/openstack-site.ts'
import { targetProxy } from '../support/target-proxy.ts'

/** Keystone, Glance, Nova and Neutron. */
const PORTS = [5000, 9292, 8774, 9696]
const { hostname } = new URL(OPENSTACK_KEYSTONE)

const ends: (() => Promise<void>)[] = []
after(async () => {
  for (const end of ends) await end()
})

/** A way to the cloud through proxies: the catalog that Keystone tells leads to them, too. @returns Keystone's address */
async function throughProxies(faults: Faults): Promise<string> {
  const addresses = new Map<string, string>()
  const rewrite = (text: string) => [...addresses].reduce((told, [real, ours]) => told.replaceAll(real, ours), text)
  for (const port of PORTS) {
    const proxy = await targetProxy({ faults, target: { host: hostname, port }, rewrite })
    ends.push(async () => await proxy[Symbol.asyncDispose]())
    addresses.set(`http://${hostname}:${port}`, `http://127.0.0.1:${proxy.port}`)
  }
  return rewrite(OPENSTACK_KEYSTONE)
}

let sites = 0

/** Each orchestrator has a project of its own. */
async function subject(): Promise<KillSubject> {
  const site = await openStackSite(`kill-${Date.now()}-${++sites}`)
  const { router, subnetPool, flavor, image, things, instances } = site
  const faults = createFaults({ streams: () => false })
  const settings = {
    provider: { kind: 'openstack', authUrl: await throughProxies(faults), region: 'RegionOne', router, subnetPool },
    regions: { one: null },
    ...{ credential: 'lab', size: flavor, image, boot: 'cloud-init', machines: 20, callsPerSecond: 1000 },
  }
  return {
    backend: { kind: 'cloud', settings },
    credentials: { lab: await site.applicationCredential() },
    ...{ faults, instances, things },
    startsWithinMs: 180_000,
    mostMs: 2_400_000,
  }
}

backendKills('OpenStack', subject, { lanes: 2 })
