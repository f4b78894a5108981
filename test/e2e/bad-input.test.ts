import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, it } from 'node:test'
import { Crowd } from '../../lab/crowd.ts'
import type { Site } from '../../lab/site.ts'
import type { EventShape, InstanceDetailShape } from '../../orchestrator/api/wire.ts'
import { instancesOf, leasesOf, openSite, settled } from '../support/site.ts'
import { until } from '../support/until.ts'

/** 2^4 addresses, of which the lowest 13 are reserved: three instances, no more. */
const POOL = { prefix: 'fd00:1::/124', reserved: 12, room: 3 }
const LEASES = 12

describe('bad input gives one clear error where an operator looks, and the rest goes on', () => {
  let site: Site
  let close: () => Promise<void>
  let crowd: Crowd
  const disk = mkdtempSync('/tmp/orchestrator-disk-')
  before(async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m,mode=1777', 'tmpfs', disk])
    ;({ site, close } = await openSite({
      dnsmasq: { leaseMax: LEASES },
      orchestrator: {
        'store.url': `sqlite:${join(disk, 'store.db')}`,
        'instances.prefix': POOL.prefix,
        'instances.reserved': POOL.reserved,
      },
      unionize: { 'network.prefix-length': 124, 'leases.compare-seconds': 2 },
    }))
    crowd = await new Crowd(site.prefix, 100).plug()
  })
  after(async () => {
    try {
      await close()
    } finally {
      execFileSync('umount', [disk])
      rmSync(disk, { recursive: true })
    }
  })

  const events = async () => (await site.orctlJson<{ items: EventShape[] }>('events', '--limit', '1000')).items
  const count = async (pattern: RegExp) => (await events()).filter((event) => pattern.test(event.message)).length
  const line = (...fields: string[]) => ['1', ...fields].join('\t')
  const expiry = `LEASE_EXPIRES=${Math.floor(Date.now() / 1000) + 3600}`
  const duid = '00:03:00:01:02:aa:00:00:00:01'

  /** Appends a line as the hook would, and waits for the one event that tells what is wrong with it. */
  async function refused(text: string | Buffer, pattern: RegExp): Promise<EventShape> {
    const before = await count(pattern)
    appendFileSync(site.journal, Buffer.concat([Buffer.from(text), Buffer.from('\n')]))
    await until(`an event like ${pattern}`, async () => (await count(pattern)) > before, { everyMs: 100 })
    assert.equal(await count(pattern), before + 1, 'it is told once')
    return (await events()).filter((event) => pattern.test(event.message)).at(-1) ?? assert.fail()
  }

  /** Has the journal tell of a lease again and again while `look` looks: dnsmasq does not know it, and soon that would end it. */
  async function whileTold<T>(text: string, look: () => Promise<T>): Promise<T> {
    const tell = () => appendFileSync(site.journal, `${text}\n`)
    tell()
    const telling = setInterval(tell, 1000)
    try {
      return await look()
    } finally {
      clearInterval(telling)
    }
  }

  it('journal lines that are no events', async () => {
    // The first lease makes the journal, with its owner and mode.
    await crowd.take(crowd.devices(1))
    const garbage = await refused('%%% not a lease event', /refused.*not a lease event/)
    assert.equal(garbage.level, 'warning')
    await refused(Buffer.alloc(1 << 20, 'x'), /refused.*(long|KiB|bytes)/i)
    await refused(Buffer.from(`1\tadd\t${duid}\tfd00:c::5\0\t\tIAID=1`), /refused.*(NUL|address)/i)
    await refused(line('frobnicate', duid, 'fd00:c::5', '', 'IAID=1'), /refused.*frobnicate/)
  })

  it('values that no lease can have', async () => {
    await refused(line('add', duid, '192.0.2.7', '', 'IAID=1', expiry), /refused.*address.*192\.0\.2\.7/)
    const long = Array.from({ length: 200 }, () => 'ab').join(':')
    await refused(line('add', long, 'fd00:c::5', '', 'IAID=1', expiry), /refused.*duid.*200 octets/)
    await refused(line('add', duid, 'fd00:c::5', '', 'IAID=T123', expiry), /refused.*IAID.*T123/)
  })

  it('a lease that had expired gets nothing; one that never expires gets its instance', async () => {
    const past = Math.floor(Date.now() / 1000) - 60
    appendFileSync(
      site.journal,
      `${line('add', '00:03:00:01:02:aa:00:00:00:02', 'fd00:c::aaa2', '', 'IAID=2', `LEASE_EXPIRES=${past}`)}\n`,
    )
    const endless = line('add', '00:03:00:01:02:aa:00:00:00:03', 'fd00:c::aaa3', '', 'IAID=3', 'LEASE_EXPIRES=0')
    const lease = await whileTold(endless, () =>
      until('the lease without end', async () => (await leasesOf(site)).find((l) => l.owner.iaid === 3)),
    )
    assert.equal(lease.expiresAt, null)
    assert.equal(
      (await leasesOf(site)).some((l) => l.owner.iaid === 2),
      false,
    )
    // Neither is in dnsmasq's lease file, which is the truth: the comparison ends it.
    await until('the lease file has its way', async () => (await leasesOf(site)).length === 1, { deadlineMs: 60_000 })
  })

  it('a hostname with shell and HTML characters', async () => {
    const hostname = `"><script>alert(1)</script>$(id)\`id\`;'`
    await whileTold(line('add', duid, 'fd00:c::aaa1', hostname, 'IAID=77', expiry), async () => {
      const instance = await until('its instance', async () =>
        (await instancesOf(site)).find((i) => i.owner.iaid === 77 && i.state === 'running'),
      )
      assert.match(instance.name, /^[a-z0-9-]+$/)
      const detail = await site.orctlJson<InstanceDetailShape>('describe', 'instance', instance.id)
      assert.equal(detail.lease?.hostname, hostname, 'the original is kept')
      const page = await until('its page', () => site.inside(['curl', '-gs', '-m5', `http://[${instance.address}]/`]))
      assert.equal(page.includes('<script>alert'), false)
    })
    await until('it is gone with its lease', async () => (await instancesOf(site)).length === 1, { deadlineMs: 60_000 })
  })

  it('an image that does not exist', async () => {
    const file = site.path('etc', 'catalog', 'sample.yaml')
    const sample = readFileSync(file, 'utf8')
    writeFileSync(file, sample.replace('orchestrator/sample:latest', 'orchestrator/nowhere:1'))
    const templates = () => site.orctl('get', 'templates', '-o', 'json')
    await until('the template is read', async () => (await templates()).includes('nowhere'))
    const [, device] = crowd.devices(2)
    assert.ok(device)
    await crowd.take([device])
    const failing = await until('the failure is shown', async () =>
      (await instancesOf(site)).find((i) => i.lastError?.includes('orchestrator/nowhere:1')),
    )
    assert.match(await site.orctl('describe', 'instance', failing.id), /orchestrator\/nowhere:1/)
    const told = (await events())
      .filter(({ message }) => /orchestrator\/nowhere:1/.test(message))
      .map(({ kind }) => kind)
    assert.equal(told.length, new Set(told).size, `each is told once, however often it is tried: ${told}`)
    writeFileSync(file, sample)
    await until('the template is as it was', async () => !(await templates()).includes('nowhere'))
    await crowd.release([device])
    await settled(site)
  })

  it('a bridge that is missing', async () => {
    const [, device] = crowd.devices(2)
    assert.ok(device)
    await site.inside(['ip', 'link', 'set', 'br-instances', 'down'])
    await site.inside(['ip', 'link', 'set', 'br-instances', 'name', 'br-elsewhere'])
    await site.process('unionize').kill()
    site.startUnionize()
    await crowd.take([device])
    await until('somebody says which bridge is missing', async () => {
      const told = (await count(/br-instances/)) > 0
      return told || site.process('unionize').log().includes('br-instances')
    })
    await site.inside(['ip', 'link', 'set', 'br-elsewhere', 'name', 'br-instances'])
    await site.inside(['ip', 'link', 'set', 'br-instances', 'up'])
    await site.inside(['ip', 'address', 'replace', 'fd00:1::1/64', 'dev', 'br-instances', 'nodad'])
    if (!site.process('unionize').running) site.startUnionize()
    assert.equal((await settled(site)).length, 2)
    await crowd.release([device])
    await settled(site)
  })

  it('a full pool of instance addresses, and a full lease table', async () => {
    const devices = crowd.devices(LEASES)
    await crowd.take(devices.slice(1))
    const refusedLeases = await until('the refusals', async () => {
      const found = (await leasesOf(site)).filter((lease) => lease.refusal !== null)
      return found.length === LEASES - POOL.room && found
    })
    for (const lease of refusedLeases) assert.match(lease.refusal ?? '', /no address is free.*instances\.prefix/)
    assert.equal((await instancesOf(site)).length, POOL.room)
    await until('the full table is told', async () => (await count(/12 of at most 12 leases.*no instance/)) > 0, {
      deadlineMs: 20_000,
    })
    const served = (await instancesOf(site)).map((i) => i.owner.iaid)
    await crowd.release(devices.filter((device) => served.includes(device.iaid)))
    await until(
      'others are served in their place',
      async () => {
        const now = (await instancesOf(site)).filter((i) => i.state === 'running')
        return now.length === POOL.room && now.every((i) => !served.includes(i.owner.iaid))
      },
      { deadlineMs: 30_000 },
    )
    await crowd.release(devices.filter((device) => !served.includes(device.iaid)))
    assert.equal((await settled(site)).length, 0)
  })

  it('a full disk under the store', async () => {
    const [device] = crowd.devices(1)
    assert.ok(device)
    const fill = join(disk, 'fill')
    mkdirSync(disk, { recursive: true })
    // The log of SQLite keeps the size that it once had: what it has room for needs no disk.
    const store = new DatabaseSync(join(disk, 'store.db'))
    store.exec('pragma wal_checkpoint(truncate)')
    store.close()
    assert.throws(() => writeFileSync(fill, Buffer.alloc(16 << 20)), { code: 'ENOSPC' })
    await crowd.take([device])
    const log = () => site.process('orchestrator').log(20_000)
    await until('the log tells it', () => /database or disk is full/.test(log()))
    const ready = () =>
      site.inside(['curl', '-sk', '-o', '/dev/null', '-w', '%{http_code}', 'https://localhost:8998/readyz'])
    assert.equal(await ready(), '503')
    rmSync(fill)
    assert.equal((await settled(site)).length, 1, 'nothing was lost')
    assert.equal(await ready(), '200')
    await crowd.release([device])
    assert.equal((await settled(site)).length, 0)
  })
})
