import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { HostUnreachable, InvalidInput, OrchestratorError } from '../../common/errors.ts'
import { type CloudMachine, type MachineOrder, type Provider, TAG } from '../../orchestrator/backends/cloud/provider.ts'
import type { Fault, FaultProxy } from '../support/fault-proxy.ts'
import { until } from '../support/until.ts'

/** What the suite needs of a provider under test. */
export interface ProviderSubject {
  /** Stands between the provider and what it calls. */
  readonly faults: FaultProxy
  /** A provider that remembers nothing, as after a restart; of another installation in the same account where told. */
  open(installation?: string): Provider
  /** What is at the provider beside machines: groups, networks, ports, tags of the installation, by name. */
  belongings(): Promise<readonly string[]>
  /** Sizes and images that it has. */
  readonly size: string
  readonly image: string
  /** That it does not have; absent: the server at hand does not check them. */
  readonly unknownSize?: string
  readonly unknownImage?: string
  /** The machines of a page of its lists, as the provider was opened. */
  readonly pageSize: number
  /** An answer of a status and code that says: the credential is wrong. */
  readonly refusal: Extract<Fault, { kind: 'answered' }>
  /** How often another page of the same list is asked for, as it can be told from calls that were seen. */
  readonly listCalls: (path: string, body: string) => boolean
}

export const INSTALLATION = '00112233445566aa'
const OTHER = 'ffeeddccbbaa9988'
const never = new AbortController().signal
/** Calls that making one machine takes, at most: as many times it is interrupted. */
const MOST_CALLS = 40

/** The promises of `Provider`. Every provider passes the same suite. */
export function providerContract(name: string, subject: () => Promise<ProviderSubject>): void {
  describe(`provider contract: ${name}`, () => {
    afterEach(async () => {
      const s = await subject()
      s.faults.reset()
      for (const installation of [INSTALLATION, OTHER]) {
        const provider = s.open(installation)
        await swept(provider)
        await provider.tidy(never)
        await provider.close()
      }
    })

    it('makes a machine that the list shows once, with its tags, and that runs and has an address', async () => {
      const { s, provider } = await opened()
      const order = orderOf(s, 1)
      const made = await provider.create(order, never)
      assert.deepEqual([made.instance, made.generation], [order.instance, order.generation])
      const running = await until('it runs', async () => {
        const found = await only(provider, order)
        return found.state === 'running' && found.address !== null ? found : null
      })
      assert.equal(running.id, made.id)
      assert.match(running.address ?? '', /^[0-9a-f:]+$/)
      assert.ok(running.createdAt > Date.now() - 3_600_000 && running.createdAt < Date.now() + 60_000)
    })

    it('makes one however often it is asked, at once, again, or after a restart', async () => {
      const { s, provider } = await opened()
      const order = orderOf(s, 2)
      const racing = await Promise.all(Array.from({ length: 4 }, () => provider.create(order, never)))
      const again = await provider.create(order, never)
      await until('the list shows it', async () => (await s.open().list(never)).length === 1)
      const restarted = await s.open().create(order, never)
      assert.deepEqual(new Set([...racing, again, restarted].map(({ id }) => id)).size, 1)
      assert.equal((await machinesOf(provider, order)).length, 1)
    })

    it('makes several at once, which share what they need beside them', async () => {
      const { s, provider } = await opened()
      const orders = [70, 71, 72, 73].map((n) => orderOf(s, n))
      const made = await Promise.all(orders.map((order) => provider.create(order, never)))
      assert.equal(new Set(made.map(({ id }) => id)).size, orders.length)
      await until('all are listed', async () => (await s.open().list(never)).length === orders.length)
    })

    it('deletes a machine; gone already is success, also for what was never there', async () => {
      const { s, provider } = await opened()
      const { id } = await provider.create(orderOf(s, 3), never)
      await provider.delete(id, never)
      await provider.delete(id, never)
      await until('it is gone', async () => (await provider.list(never)).length === 0)
      await s.open().delete(id, never)
    })

    it('neither sees nor takes away what belongs to another installation', async () => {
      const { s, provider } = await opened()
      const other = s.open(OTHER)
      const theirs = await other.create(orderOf(s, 4, 1, OTHER), never)
      assert.deepEqual(await provider.list(never), [])
      const mine = await provider.create(orderOf(s, 4), never)
      assert.notEqual(mine.id, theirs.id)
      await provider.delete(mine.id, never)
      await until('mine is gone', async () => (await provider.list(never)).length === 0)
      await provider.tidy(never)
      const left = await until('theirs is listed', async () => (await other.list(never))[0])
      assert.equal(left.id, theirs.id)
    })

    it('lists every machine once, over all pages, also when a page comes twice', async () => {
      const { s, provider } = await opened()
      const orders = Array.from({ length: s.pageSize * 2 + 2 }, (_, n) => orderOf(s, 100 + n))
      for (const order of orders) await provider.create(order, never)
      const names = orders.map(({ instance }) => instance).sort()
      const fresh = s.open()
      await until('all are listed', async () => (await fresh.list(never)).length === orders.length)
      s.faults.reset()
      s.faults.next({ kind: 'twice' }, ({ path, body }) => s.listCalls(path, body))
      const listed = await fresh.list(never)
      assert.deepEqual(listed.map(({ instance }) => instance).sort(), names)
      assert.ok(s.faults.seen.filter(({ path, body }) => s.listCalls(path, body)).length >= 3, 'it takes pages')
    })

    it('concludes nothing from a list that it did not get whole', async () => {
      const { s, provider } = await opened()
      for (let n = 0; n < s.pageSize + 2; n++) await provider.create(orderOf(s, 200 + n), never)
      const fresh = s.open()
      await until('all are listed', async () => (await fresh.list(never)).length === s.pageSize + 2)
      const garbage = { kind: 'answered', status: 200, body: 'OK', headers: {} } as const
      const away = { kind: 'answered', status: 503, body: '' } as const
      for (const fault of [{ kind: 'refused' }, { kind: 'lost' }, garbage, away] as const) {
        let page = 0
        s.faults.reset()
        s.faults.next(fault, ({ path, body }) => s.listCalls(path, body) && ++page >= 2, { always: true })
        await assert.rejects(s.open().list(never), retryable, JSON.stringify(fault))
      }
    })

    it('says that it could not ask, never that there is nothing', async () => {
      const { s, provider } = await opened()
      const order = orderOf(s, 5)
      const { id } = await provider.create(order, never)
      for (const fault of [{ kind: 'refused' }, { kind: 'answered', status: 500, body: 'oh' }] as const) {
        s.faults.reset()
        s.faults.next(fault, undefined, { always: true })
        await assert.rejects(provider.list(never), HostUnreachable)
        await assert.rejects(provider.create(orderOf(s, 6), never), HostUnreachable)
        await assert.rejects(provider.delete(id, never), HostUnreachable)
        await assert.rejects(provider.tidy(never), HostUnreachable)
        await assert.rejects(provider.check(never), HostUnreachable)
      }
    })

    it('says that the credential is refused, and that no retry mends it', async () => {
      const { s, provider } = await opened()
      s.faults.next(s.refusal, undefined, { always: true })
      const calls = [
        () => provider.list(never),
        () => provider.create(orderOf(s, 7), never),
        () => provider.check(never),
      ]
      for (const call of calls) {
        await assert.rejects(call(), (error) => {
          assert.ok(error instanceof OrchestratorError, String(error))
          assert.deepEqual([error.code, error.retryable], ['credential-refused', false])
          return true
        })
      }
    })

    it('names the option that it does not know', async () => {
      const { s, provider } = await opened()
      const wrong = [
        ['options.size', { size: s.unknownSize }],
        ['options.image', { image: s.unknownImage }],
      ] as const
      for (const [field, change] of wrong) {
        if (Object.values(change).includes(undefined)) continue
        const order = { ...orderOf(s, 8), ...change } as MachineOrder
        await assert.rejects(
          provider.create(order, never),
          (error) => error instanceof InvalidInput && error.field === field,
          field,
        )
      }
      assert.deepEqual(await provider.list(never), [])
    })

    it('ends at once when its signal is aborted, and finishes the work when asked again', async () => {
      const { s, provider } = await opened()
      const order = orderOf(s, 9)
      const enough = new Error('enough')
      const is = (error: unknown) => error === enough
      await assert.rejects(provider.create(order, AbortSignal.abort(enough)), is)
      await assert.rejects(provider.list(AbortSignal.abort(enough)), is)
      s.faults.next({ kind: 'silent' }, undefined, { always: true })
      const soon = new AbortController()
      const half = provider.create(order, soon.signal)
      await until('it called', () => s.faults.seen.length > 0)
      soon.abort(enough)
      await assert.rejects(half, is)
      s.faults.reset()
      const { id } = await insisted(() => provider.create(order, never))
      await until('there is one', async () => (await machinesOf(s.open(), order))[0]?.id === id)
    })

    for (const fault of [{ kind: 'refused' }, { kind: 'lost' }, { kind: 'twice' }] as const) {
      it(`ends with one machine and nothing beside it, whichever call of making it is ${fault.kind}`, async () => {
        const { s } = await opened()
        const before = await s.belongings()
        for (let call = 1; call <= MOST_CALLS; call++) {
          const order = orderOf(s, 10 + call)
          s.faults.reset()
          s.faults.nth(call, fault)
          await s.open().create(order, never).catch(retryableOnly)
          const reached = s.faults.seen.length >= call
          s.faults.reset()
          // Another process, which knows only what is there.
          const provider = s.open()
          const { id } = await insisted(() => provider.create(order, never))
          const found = await until(`call ${call}: one is there`, async () => {
            const all = await machinesOf(provider, order)
            return all.length === 1 ? all : null
          })
          assert.equal(found[0]?.id, id, `call ${call}`)
          await provider.delete(id, never)
          await until(`call ${call}: it is gone`, async () => (await provider.list(never)).length === 0)
          await until(`call ${call}: nothing is left beside it`, async () => {
            await provider.tidy(never)
            return JSON.stringify(await s.belongings()) === JSON.stringify(before)
          })
          await provider.close()
          if (!reached) return assert.ok(call > 1, 'making a machine takes a call')
        }
        assert.fail(`making a machine takes more than ${MOST_CALLS} calls`)
      })
    }

    it('tidies away what no machine uses, and nothing else, whichever call of it is lost', async () => {
      const { s, provider } = await opened()
      const before = await s.belongings()
      const kept = await provider.create(orderOf(s, 60), never)
      const withOne = await s.belongings()
      const gone = await provider.create({ ...orderOf(s, 61), admit: '2001:db8:9::9' }, never)
      await provider.delete(gone.id, never)
      await until('one is left', async () => {
        const all = await s.open().list(never)
        return all.length === 1 && all[0]?.id === kept.id
      })
      for (let call = 1; ; call++) {
        s.faults.reset()
        s.faults.nth(call, { kind: 'lost' })
        await s.open().tidy(never).catch(retryableOnly)
        if (s.faults.seen.length < call) break
      }
      s.faults.reset()
      await until('what the other needed is gone', async () => {
        await provider.tidy(never)
        return JSON.stringify(await s.belongings()) === JSON.stringify(withOne)
      })
      await provider.delete(kept.id, never)
      await until('nothing is left', async () => {
        await provider.tidy(never)
        return JSON.stringify(await s.belongings()) === JSON.stringify(before)
      })
    })

    it('tells what answers and what it may do there, and changes nothing', async () => {
      const { s, provider } = await opened()
      const before = await s.belongings()
      const told = await provider.check(never)
      assert.ok(told.version.length > 0 && told.abilities.length > 0)
      assert.deepEqual(await s.belongings(), before)
      assert.deepEqual(await provider.list(never), [])
    })

    async function opened(): Promise<{ s: ProviderSubject; provider: Provider }> {
      const s = await subject()
      return { s, provider: s.open() }
    }
  })
}

/** Deletes all machines, also those that the list shows late: it is to be empty several times. */
export async function swept(provider: Provider): Promise<void> {
  let empty = 0
  await until('no machine is left', async () => {
    const found = await provider.list(never)
    for (const { id, state } of found) if (state !== 'ending') await provider.delete(id, never).catch(retryableOnly)
    empty = found.length === 0 ? empty + 1 : 0
    return empty === 5
  })
}

/** Asks again, as the reconciler does, while the provider says that this helps. */
async function insisted<T>(call: () => Promise<T>): Promise<T> {
  return until('it succeeds in the end', async () => {
    try {
      return { done: await call() }
    } catch (error) {
      retryableOnly(error)
      throw error
    }
  }).then(({ done }) => done)
}

function retryable(error: unknown): boolean {
  assert.ok(error instanceof OrchestratorError, String(error))
  assert.equal(error.retryable, true, error.message)
  return true
}

function retryableOnly(error: unknown): void {
  if (!(error instanceof OrchestratorError) || !error.retryable) throw error
}

async function machinesOf(provider: Provider, order: MachineOrder): Promise<readonly CloudMachine[]> {
  const all = await provider.list(never)
  return all.filter((m) => m.instance === order.instance && m.generation === order.generation && m.state !== 'ending')
}

async function only(provider: Provider, order: MachineOrder): Promise<CloudMachine> {
  const [one, ...more] = await machinesOf(provider, order)
  if (one === undefined || more.length > 0)
    throw new Error(`expected one machine, found ${more.length + (one ? 1 : 0)}`)
  return one
}

export function orderOf(
  s: Pick<ProviderSubject, 'size' | 'image'>,
  n: number,
  generation = 1,
  installation = INSTALLATION,
): MachineOrder {
  const instance = `i${String(n).padStart(11, '0')}`
  return {
    instance,
    generation,
    name: `client-${n}`,
    tags: {
      [TAG.installation]: installation,
      [TAG.instance]: instance,
      [TAG.generation]: String(generation),
      [TAG.owner]: `owner-${n}`,
    },
    bootData: '#cloud-config\nruncmd: [["true"]]\n',
    size: s.size,
    image: s.image,
    admit: '2001:db8:1::1',
    spot: false,
    asking: async () => {},
  }
}
