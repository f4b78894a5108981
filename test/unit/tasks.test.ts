import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { TASK_LABEL, TASK_ROLE } from '../../common/task-place.ts'
import type { Engine } from '../../unionize/engine/containers.ts'
import { ContainerFailure } from '../../unionize/engine/failure.ts'
import { createTasks } from '../../unionize/tasks/tasks.ts'
import { silent } from '../support/fixtures.ts'

/** Tasks of a swarm on an engine and a wiring that are lists. */
function site() {
  const running = new Map<string, { address: string }>()
  /** Addresses that have a place on the bridge. */
  const placed = new Set<string>()
  let broken = false
  /** Addresses whose place cannot be taken away. */
  const stuck = new Set<string>()
  const labelsOf = (address: string) => ({
    [TASK_LABEL.role]: TASK_ROLE,
    [TASK_LABEL.place]: JSON.stringify({
      ...{ instance: `i-${address}`, address, owner: 'fd00:c::1' },
      home: { name: 'h1', address: null },
    }),
  })
  const engine = {
    list: async () =>
      [...running].map(([id, { address }]) => ({ id, running: true, labels: labelsOf(address) })) as unknown as Awaited<
        ReturnType<Engine['list']>
      >,
    inspect: async (id: string) => {
      if (!running.has(id)) throw new ContainerFailure('not-found', `there is no ${id}`)
      return { pid: 1, running: true } as Awaited<ReturnType<Engine['inspect']>>
    },
  }
  const works = () => {
    if (broken) throw new Error('no netlink')
  }
  const tasks = createTasks({
    ...{ engine, host: 'h1', log: silent, notice: () => {} },
    wiring: {
      attach: async () => works(),
      place: async ({ address }) => void placed.add(address),
      unplace: async ({ address }) => {
        works()
        if (stuck.has(address)) throw new Error('busy')
        placed.delete(address)
      },
      detach: async () => works(),
    },
  })
  const event = (action: string, id: string, address: string) =>
    tasks.happened({ action, id, labels: labelsOf(address) } as Parameters<typeof tasks.happened>[0])
  return { running, placed, stuck, tasks, event, break: (is: boolean) => (broken = is) }
}

describe('tasks of a swarm on a host', () => {
  it('are wired and unwired though what happened to them could not be followed', async () => {
    const { running, placed, tasks, event } = site()
    running.set('ended', { address: 'fd00:1::1' })
    await event('start', 'ended', 'fd00:1::1')
    assert.deepEqual([...placed], ['fd00:1::1'])
    running.delete('ended')
    running.set('started', { address: 'fd00:1::2' })
    tasks.missed()
    await tasks.mend()
    assert.deepEqual([...placed], ['fd00:1::2'])
  })

  it('are unwired at last when that failed at first', async () => {
    const s = site()
    s.running.set('one', { address: 'fd00:1::1' })
    await s.event('start', 'one', 'fd00:1::1')
    s.running.delete('one')
    s.break(true)
    await assert.rejects(s.event('die', 'one', 'fd00:1::1'), /no netlink/)
    await assert.rejects(s.tasks.mend(), /no netlink/)
    s.break(false)
    await s.tasks.mend()
    assert.deepEqual([...s.placed], [])
  })

  it('are wired and unwired beside one that cannot be unwired', async () => {
    const { running, placed, stuck, tasks, event } = site()
    for (const [id, address] of [
      ['bad', 'fd00:1::1'],
      ['old', 'fd00:1::2'],
    ] as const) {
      running.set(id, { address })
      await event('start', id, address)
    }
    stuck.add('fd00:1::1')
    running.clear()
    running.set('new', { address: 'fd00:1::3' })
    tasks.missed()
    await assert.rejects(tasks.mend(), /busy/)
    assert.deepEqual([...placed], ['fd00:1::1', 'fd00:1::3'])
    stuck.clear()
    await tasks.mend()
    assert.deepEqual([...placed], ['fd00:1::3'])
  })

  it('that ended before they could be wired leave nothing that the firewall was told of them', async () => {
    const { running, placed, tasks } = site()
    running.set('one', { address: 'fd00:1::1' })
    const { paths } = await tasks.stock()
    for (const { instance } of paths) placed.add(instance)
    running.delete('one')
    await tasks.mend()
    assert.deepEqual([...placed], [])
  })
})
