import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, readlinkSync, writeSync } from 'node:fs'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { LinkEvents } from '../../unionize/wiring/kernel/link-events.ts'
import { setMtu } from '../../unionize/wiring/kernel/links.ts'
import { type LinkChange, watchLinks } from '../../unionize/wiring/kernel/monitor.ts'
import { Namespaces, type Sandbox } from '../../unionize/wiring/kernel/namespaces.ts'
import { until } from '../support/until.ts'

const NAME = `wt-${process.pid}-watch`
const namespaces = new Namespaces()
const never = () => assert.fail('it was entered')
const visit = <T>(work: (sandbox: Sandbox) => T): T => namespaces.visit({ path: `/run/netns/${NAME}` }, work)

function ip(...words: string[]): void {
  execFileSync('ip', ['-n', NAME, ...words])
}

beforeEach(() => {
  execFileSync('ip', ['netns', 'add', NAME])
})
afterEach(() => {
  spawnSync('ip', ['netns', 'delete', NAME])
})

describe('a namespace', () => {
  it('of a file that is gone, or is no namespace, is told apart from one that may not be entered', () => {
    for (const path of ['/run/netns/wt-never', '/proc/self/status']) {
      assert.throws(() => namespaces.visit({ path }, never), { code: 'namespace-gone' })
    }
    assert.throws(() => namespaces.visit({ path: '/proc/self/ns/net' }, never), { code: 'not-isolated' })
    assert.throws(() => namespaces.visit({ pid: process.pid }, never), { code: 'not-isolated' })
  })

  it('is left again when the work in it fails', () =>
    visit((here) => {
      const own = () => readlinkSync('/proc/thread-self/ns/net')
      const home = own()
      assert.throws(
        () =>
          here.inside(() => {
            assert.equal(own(), `net:[${here.inode}]`)
            throw new Error('a failure')
          }),
        /a failure/,
      )
      assert.equal(own(), home)
    }))
})

describe('the watch over links', () => {
  /** A thread begins in the namespace of the one that starts it. */
  const watchHere = (watcher: Parameters<typeof watchLinks>[0]) =>
    visit((here) => here.inside(() => watchLinks(watcher)))

  it('tells of what is made, changed and removed, in this order, and nothing after it has stopped', async () => {
    const seen: string[] = []
    const watch = watchHere({
      onChange: (changes: readonly LinkChange[]) => {
        for (const { gone, link } of changes) seen.push(`${gone ? 'gone' : 'is'} ${link.name} ${link.mtu}`)
      },
      onLost: (reason) => seen.push(reason),
    })
    await watch.ready
    ip('link', 'add', 'br0', 'type', 'bridge')
    ip('link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'p1')
    ip('link', 'set', 'p0', 'mtu', '1280')
    ip('link', 'set', 'p0', 'master', 'br0')
    ip('link', 'set', 'p0', 'nomaster')
    ip('link', 'delete', 'p0')
    await until('the last change is told', () => seen.includes('gone p1 1500') && seen.includes('gone p0 1280'))
    assert.ok(seen.indexOf('is p0 1500') >= 0)
    assert.ok(seen.indexOf('is p0 1280') > seen.indexOf('is p0 1500'))
    assert.equal(
      seen.indexOf('gone p0 1280'),
      seen.findIndex((text) => text.startsWith('gone p0')),
    )
    assert.equal(seen.filter((text) => text.startsWith('gone p0')).length, 1)
    await watch.stop()
    const before = seen.length
    ip('link', 'delete', 'br0')
    assert.equal(seen.length, before)
  })

  it('says when more changed than the kernel kept, and tells of what comes later', () => {
    ip('link', 'add', 'br0', 'type', 'bridge')
    const events = visit((here) => here.inside(() => new LinkEvents(1)))
    try {
      visit((here) => {
        for (let mtu = 1280; mtu < 1380; mtu++) {
          here.route.ask({ purpose: 'change', bytes: setMtu('br0', mtu) })
        }
      })
      let lost: string | null = null
      for (let told = events.next(0); told.changes.length > 0 || told.lost !== null; told = events.next(0)) {
        lost ??= told.lost
      }
      assert.match(lost ?? '', /ENOBUFS/)
      ip('link', 'delete', 'br0')
      const { changes } = events.next(5000)
      assert.deepEqual(
        changes.filter(({ gone }) => gone).map(({ link }) => link.name),
        ['br0'],
      )
    } finally {
      events.close()
      closeSync(events.wake)
    }
  })

  it('tells of bridges only, if told so, whatever happens to their ports and other links', () => {
    const events = visit((here) => here.inside(() => new LinkEvents(undefined, { bridgesOnly: true })))
    const heard = () => {
      const names = new Set<string>()
      for (let told = events.next(0); told.changes.length > 0; told = events.next(0)) {
        assert.equal(told.lost, null)
        for (const { gone, link } of told.changes) names.add(`${gone ? 'gone' : 'is'} ${link.name} ${link.kind}`)
      }
      return [...names]
    }
    try {
      ip('link', 'set', 'lo', 'up')
      ip('link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'bridge')
      ip('link', 'set', 'p0', 'mtu', '1280')
      assert.deepEqual(events.next(0), { changes: [], lost: null })
      ip('link', 'add', 'br0', 'type', 'bridge')
      assert.deepEqual(heard(), ['is br0 bridge'])
      ip('link', 'set', 'br0', 'up')
      ip('link', 'set', 'p0', 'master', 'br0', 'up')
      assert.deepEqual(heard(), ['is br0 bridge'])
      ip('link', 'delete', 'p0')
      ip('link', 'set', 'br0', 'name', 'br1')
      ip('link', 'delete', 'br1')
      assert.deepEqual(heard().slice(-1), ['gone br1 bridge'])
    } finally {
      events.close()
      closeSync(events.wake)
    }
  })

  it('is woken at once', () => {
    const events = visit((here) => here.inside(() => new LinkEvents()))
    try {
      writeSync(events.wake, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]))
      assert.deepEqual(events.next(60_000), { changes: [], lost: null })
    } finally {
      events.close()
      closeSync(events.wake)
    }
  })
})
