import assert from 'node:assert/strict'
import { test } from 'node:test'
import { wiringShape } from '../../common/wiring-spec.ts'
import type { Dhcp } from '../../unionize/wiring/dhcp/dhcp.ts'
import type { Difference, Interfaces, Wired } from '../../unionize/wiring/interfaces/interfaces.ts'
import type { LinkWatcher } from '../../unionize/wiring/kernel/monitor.ts'
import { startKeeper, type Whereabouts } from '../../unionize/wiring/lasting/keeper.ts'
import { createRepairDelay } from '../../unionize/wiring/lasting/repair-delay.ts'
import { until } from '../support/until.ts'

const SPEC = wiringShape.parse({ interfaces: [{ name: 'eth1', link: { kind: 'bridge', bridge: 'br1' } }] })
const TARGET = { key: 'container:x', label: 'x', namespace: { pid: 1 } }
const WIRED: Wired = { key: TARGET.key, label: 'x', alive: true, spec: SPEC, interfaces: [] }
const DIFFERENCE: Difference = { interface: 'eth1', field: 'link.bridge', wanted: 'br1', found: 'none' }

/** A keeper over an engine that only notes what it is asked. */
function keep(options: { whereabouts: () => Whereabouts; holds: boolean; alive?: boolean; differs?: boolean }) {
  const asked: string[] = []
  let differs = options.differs ?? true
  let watcher: LinkWatcher | undefined
  let wired: Wired[] = [{ ...WIRED, alive: options.alive ?? true }]
  const interfaces: Interfaces = {
    plan: async () => [],
    wire: async () => {
      asked.push('wire')
      differs = false
      return []
    },
    check: async () => {
      asked.push('check')
      return differs ? [DIFFERENCE] : []
    },
    unwire: async () => {
      asked.push('unwire')
      wired = []
      return []
    },
    show: async () => wired,
    stop: async () => {},
  }
  const dhcp: Dhcp = {
    keep: async () => {},
    leaveFormer: async () => {},
    release: async () => void asked.push('release'),
    leases: () => new Map(),
    stop: async () => {},
  }
  const keeper = startKeeper({
    ...{ interfaces, dhcp, log: () => {} },
    exits: { watch: () => () => {}, stop: async () => {} },
    whereabouts: async () => options.whereabouts(),
    watchLinks: (given) => {
      watcher = given
      return { ready: Promise.resolve(), stop: async () => {} }
    },
  })
  const count = (word: string) => asked.filter((one) => one === word).length
  const undo = () => {
    if (!options.holds) differs = true
    watcher?.onLost('something happened')
  }
  return { keeper, asked, count, undo }
}

test('what differs is mended once, and what does not is left alone', async () => {
  const differing = keep({ whereabouts: () => TARGET, holds: true })
  await until('it is looked at after its repair', () => differing.count('check') === 2)
  assert.equal(differing.count('wire'), 1)
  await differing.keeper.stop()
  const fine = keep({ whereabouts: () => TARGET, holds: true, differs: false })
  await until('it is looked at', () => fine.count('check') === 1)
  assert.equal(fine.count('wire'), 0)
  await fine.keeper.stop()
})

test('a repair that does not hold is not fought over', async () => {
  const { keeper, count, undo } = keep({ whereabouts: () => TARGET, holds: false })
  await until('it is mended', () => count('wire') === 1)
  for (let looks = count('check'); count('check') < 12; looks = count('check')) {
    undo()
    await until('it is looked at again', () => count('check') > looks)
  }
  assert.ok(count('wire') <= 2, `mended ${count('wire')} times within a second or two`)
  await keeper.stop()
})

test('a target that is gone is undone; one that is stopped is left as it is', async () => {
  const gone = keep({ whereabouts: () => 'gone', holds: true })
  await until('it is undone', () => gone.count('unwire') === 1)
  assert.deepEqual(gone.asked, ['release', 'unwire'], 'the lease first')
  await gone.keeper.stop()
  let asked = 0
  const whereabouts = (): Whereabouts => {
    asked++
    return 'stopped'
  }
  const stopped = keep({ whereabouts, holds: true, alive: false })
  await until('it was looked for', () => asked === 1)
  stopped.undo()
  await until('it was looked for again', () => asked === 2)
  assert.deepEqual(stopped.asked, [])
  await stopped.keeper.stop()
})

test('delays double up to five minutes, and are forgotten when it held', () => {
  let now = 0
  const delay = createRepairDelay(() => now)
  const delays = Array.from({ length: 12 }, () => delay.next('a'))
  assert.deepEqual(delays.slice(0, 4), [1_000, 2_000, 4_000, 8_000])
  assert.equal(delays.at(-1), 300_000)
  assert.equal(delay.next('b'), 1_000)
  now += 4 * 300_000
  assert.equal(delay.next('a'), 1_000)
  delay.forget('a')
  assert.equal(delay.next('a'), 1_000)
})
