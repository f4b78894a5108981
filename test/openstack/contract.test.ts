import { after } from 'node:test'
import { OPENSTACK_KEYSTONE } from '../../lab/openstack/machine.ts'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendContract } from '../contract/backend.ts'
import { cloudContext, cloudOrder } from '../support/cloud-backend.ts'
import { fetchFaults } from '../support/fetch-faults.ts'
import { openStackSite } from '../support/openstack-site.ts'

const site = openStackSite(`contract-${Date.now()}`)
const faults = fetchFaults((url) => !url.includes(':9/'))
after(() => faults.restore())

backendContract('cloud, OpenStack', async () => {
  const { router, subnetPool, flavor, image, applicationCredential, things } = await site
  const credential = await applicationCredential()
  const settings = {
    provider: { kind: 'openstack', authUrl: OPENSTACK_KEYSTONE, region: 'RegionOne', router, subnetPool },
    regions: { one: null, away: { authUrl: OPENSTACK_KEYSTONE.replace(':5000', ':9') } },
    ...{ credential: 'lab', size: flavor, image, boot: 'cloud-init', machines: 20, callsPerSecond: 1000 },
  }
  const context = cloudContext(() => credential)
  const open = () => kind.create(settings, context)
  return {
    backend: await open(),
    host: { name: 'one' as HostName },
    absent: { name: 'away' as HostName },
    order: cloudOrder,
    reopen: open,
    another: () =>
      kind.create(
        settings,
        cloudContext(() => credential, { installation: 'fedcba9876543210' }),
      ),
    startsWithinMs: 180_000,
    lagMs: 20_000,
    // A port of the router goes with the network; the others are named after us.
    things: async () => (await things()).filter((thing) => thing !== 'ports '),
    faults,
    // All calls are to be tried, which takes two to four minutes for each kind.
    faultsMs: 900_000,
  }
})
