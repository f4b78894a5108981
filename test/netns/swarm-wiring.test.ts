import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Backend } from '../../orchestrator/backends/backend.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import type { Observed, Order } from '../../orchestrator/domain/instance.ts'
import { SWARM, swarmBackend } from '../support/swarm.ts'
import { SwarmSite } from '../support/swarm-site.ts'
import { until } from '../support/until.ts'
import { type Agent, BRIEF } from '../support/wiring-lab.ts'

const never = new AbortController().signal
const target = { name: SWARM }

describe('a task of a swarm and its owner', () => {
  let site: SwarmSite
  let backend: Backend
  let order: Order
  let observed: Observed

  const answered = async (who: Agent, address: string) => (await who.icmp(address, BRIEF)).result === 'answered'
  const reaches = (who: Agent) => until('it is reached', () => answered(who, order.address))
  const running = (wanted: Order): Promise<Observed> =>
    until(
      'it runs',
      async () => {
        const found = await backend.ensure(wanted, target, never)
        return found.state === 'running' && found
      },
      { deadlineMs: 30_000 },
    )
  /** How many packets of the owner were not answered while something went on, and a little after. */
  const during = async (work: () => Promise<void>): Promise<number> => {
    let busy = true
    const done = work().finally(() => {
      busy = false
    })
    let [lost, after] = [0, 5]
    while (busy || after-- > 0) {
      if ((await site.owner.icmp(order.address, { timeoutMs: 10_000 })).result !== 'answered') lost++
    }
    await done
    return lost
  }
  const here = async () => (await site.nodesOf(order))[0] ?? assert.fail('no node runs it')

  before(async () => {
    site = await SwarmSite.open('sww')
    backend = await swarmBackend(site.swarm.managers)
    order = site.order(1)
    observed = await running(order)
    await site.lead(order, observed)
  })
  after(async () => {
    await backend?.close()
    await site?.[Symbol.asyncDispose]()
  })

  it('the owner reaches it at its address, through the node that runs it, and nobody else does', async () => {
    const { address } = site.swarm.node(await here())
    assert.deepEqual(observed.reach, { kind: 'routed', via: address })
    assert.equal(observed.address, order.address)
    await reaches(site.owner)
    assert.equal(await answered(site.stranger, order.address), false)
  })

  it('is reached all the while when unionize of its node was killed and begins anew', async () => {
    const node = await here()
    await site.killUnionize(node)
    const lost = await during(() => site.startUnionize(node))
    assert.equal(lost, 0, 'not one packet was refused meanwhile')
    assert.equal(await answered(site.stranger, order.address), false)
    assert.equal((await site.linksOn(node)).length, 1)
    assert.deepEqual(await site.unionize(node).ask('collect'), [], 'its link is no leftover')
    await reaches(site.owner)
  })

  it('follows it to another node when that one is drained: its address stays, and its reach is told', async () => {
    const from = await here()
    const told: Observed[] = []
    const enough = new AbortController()
    const watching = backend.watch?.(target, (one) => void told.push(one), enough.signal)
    await site.swarm.setAvailability(from, 'drain')
    const to = await until(
      'it has moved',
      () =>
        told.find(
          ({ state, reach }) =>
            state === 'running' && reach?.kind === 'routed' && reach.via !== site.swarm.node(from).address,
        ),
      { deadlineMs: 40_000 },
    )
    assert.equal(to.address, order.address)
    const node = await here()
    assert.notEqual(node, from)
    assert.deepEqual(to.reach, { kind: 'routed', via: site.swarm.node(node).address })
    await site.lead(order, to)
    await reaches(site.owner)
    await until('nothing of it is left where it was', async () => (await site.linksOn(from)).length === 0)
    await site.swarm.setAvailability(from, 'active')
    enough.abort(new Error('enough'))
    await watching
  })

  it('needs no way where the node is the home of its owner', async () => {
    const node = await here()
    const home = { name: node as HostName, address: null }
    const moved = await running({
      ...order,
      generation: 2,
      home,
      options: { placement: { constraints: [`node.hostname==${node}`] } },
    })
    assert.equal(moved.reach, undefined)
    assert.equal(moved.generation, 2)
    await until('it is wired for an owner at this very host', async () => (await site.linksOn(node)).length === 1)
  })

  it('is unwired when it is removed', async () => {
    const node = await here()
    await backend.remove({ id: order.instance, generation: 3 }, target, never)
    await until('its link is gone', async () => (await site.linksOn(node)).length === 0)
    assert.equal(await answered(site.owner, order.address), false)
  })
})
