import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { LABEL, type WireOrder } from '../../unionize/contract.ts'
import type { Engine, ListedContainer } from '../../unionize/engine/containers.ts'
import type { Assembled, Assembly } from '../../unionize/instances/assembly.ts'
import { createInstances } from '../../unionize/instances/instances.ts'
import { createOrders } from '../../unionize/instances/orders.ts'
import type { SandboxPool } from '../../unionize/instances/sandbox.ts'
import { takeStock } from '../../unionize/instances/stock.ts'
import { createWays } from '../../unionize/instances/ways.ts'
import type { Wiring } from '../../unionize/wiring/wiring.ts'
import { service, silent } from '../support/fixtures.ts'

const SANDBOX = { id: 'a'.repeat(64), pid: 7, link: 'ui-a', mac: '02:00:00:00:00:01' }
const never = new AbortController().signal
const nothing = async () => {}

function order(generation: number, change: Partial<WireOrder> = {}): WireOrder {
  return {
    ...{ instance: 'i-one', generation, owner: { duid: '00:01', iaid: 1 }, name: 'one' },
    ...{ address: 'fd00:1::1', ownerAddress: 'fd00:c::1', services: [service()], outputs: false, entryPort: null },
    ...change,
  }
}

/** Instances that are put together as told, beside orders on disk and an engine that shows no container. */
async function site(t: { after: (end: () => void) => void }, assembly: Partial<Assembly> = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'instances-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const orders = createOrders({ directory, now: Date.now })
  await orders.load()
  const engine: Pick<Engine, 'list'> = { list: async () => [] }
  const instances = createInstances({
    ...{ orders, host: 'h1', log: silent, now: Date.now, tell: () => {}, engine: engine as Engine },
    assembly: {
      build: async () => assembled,
      mend: async () => assembled,
      cutOff: nothing,
      dismantle: nothing,
      holds: () => false,
      ...assembly,
    },
  })
  t.after(() => instances.stop())
  return { instances, orders }
}
const assembled: Assembled = {
  ...{ sandbox: SANDBOX, sandboxes: [SANDBOX.id], sandboxAt: 0, startedAt: 0, restarted: false, waiting: [] },
  unhealthy: new Map(),
}

describe('an instance', () => {
  it('is repaired for its new owner knowing the former one, who is still to be cut off', async (t) => {
    const former: (string | undefined)[] = []
    let fails = true
    const { instances } = await site(t, {
      async mend(_order, _found, { previous }) {
        if (fails) throw new Error('no netlink')
        former.push(previous?.ownerAddress)
        return assembled
      },
    })
    await instances.ensure(order(1), never)
    const next = order(2, { ownerAddress: 'fd00:c::2' })
    await assert.rejects(instances.ensure(next, never), /no netlink/)
    fails = false
    await instances.repair('i-one')
    await instances.ensure(next, never)
    assert.deepEqual(former, ['fd00:c::1', 'fd00:c::2'])
  })

  it('that was asked for while what was left of it went is wanted afterwards', async (t) => {
    const clearing = Promise.withResolvers<void>()
    const { instances, orders } = await site(t, { dismantle: () => clearing.promise })
    await instances.ensure(order(1), never)
    const cleared = instances.clear('i-one', async () => true)
    const ensured = instances.ensure(order(1), never)
    clearing.resolve()
    await cleared
    assert.equal((await ensured).state, 'running')
    assert.equal(orders.generation('i-one'), 1)
    assert.ok(instances.isWanted('i-one'))
  })

  it('keeps its sandbox in a stock-taking though none of its containers is left', async (t) => {
    const { instances, orders } = await site(t)
    await instances.ensure(order(1), never)
    const sandbox = (id: string) =>
      ({ id, running: true, namespaceOf: null, labels: { [LABEL.role]: 'sandbox' } }) as unknown as ListedContainer
    const adopted: string[] = []
    const engine: Pick<Engine, 'list'> = { list: async () => [sandbox(SANDBOX.id), sandbox('b')] }
    const wiring: Pick<Wiring, 'links' | 'replacePassages'> = { links: async () => [], replacePassages: nothing }
    const pool: Pick<SandboxPool, 'adopt' | 'holds' | 'ready'> = {
      adopt: async (free) => void adopted.push(...free.map(({ id }) => id)),
      holds: () => false,
      ready: () => 0,
    }
    await takeStock({
      ...{ engine: engine as Engine, wiring: wiring as Wiring, pool: pool as SandboxPool, orders, instances },
      names: { put: nothing, remove: nothing, keepOnly: nothing },
      networks: { keepOnly: nothing },
      tasks: { stock: async () => ({ paths: [], sources: [] }), mend: nothing },
      ...{ leads: { all: () => [] }, host: 'h1', log: silent, holds: () => false, background: () => {} },
    })
    assert.deepEqual(adopted, ['b'])
  })
})

describe('where my.instance leads', () => {
  it('changes for a newer order, once, and for nothing that is done again', async () => {
    const led: string[] = []
    let fails = false
    const wiring: Pick<Wiring, 'place' | 'open' | 'close' | 'unplace'> = {
      async place() {
        if (fails) throw new Error('no netlink')
      },
      open: async ({ instance }) => void led.push(instance),
      close: nothing,
      unplace: nothing,
    }
    const ways = createWays(wiring as Wiring)
    const first = order(1)
    await ways.open(first, null, SANDBOX)
    await ways.open(first, first, SANDBOX)
    assert.deepEqual(led, [])
    const next = order(2)
    fails = true
    await assert.rejects(ways.open(next, first, SANDBOX), /no netlink/)
    fails = false
    await ways.open(next, first, SANDBOX)
    assert.deepEqual(led, ['fd00:1::1'])
    await ways.open(next, first, SANDBOX)
    await ways.open(next, next, SANDBOX)
    assert.deepEqual(led, ['fd00:1::1'], 'though not all of the newer order could be carried out at first')
  })
})
