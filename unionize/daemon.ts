import { release } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { wording } from '../common/errors.ts'
import { parseIpv6, prefixOf } from '../common/ipv6.ts'
import type { Log } from '../common/log.ts'
import type { WireObserved } from './contract.ts'
import { dockerEngine } from './engine/containers.ts'
import { loadIdentity } from './identity.ts'
import { createImages } from './images/images.ts'
import { startImages } from './images/start.ts'
import { createAssembly } from './instances/assembly.ts'
import { createFiles } from './instances/files.ts'
import { createInstances } from './instances/instances.ts'
import { hostsDirectory } from './instances/names.ts'
import { createOrders } from './instances/orders.ts'
import { createOrphanCollector } from './instances/orphans.ts'
import { createOutputs } from './instances/outputs.ts'
import { ensurePauseImage } from './instances/pause.ts'
import { createRestarts } from './instances/restarts.ts'
import { createSandboxPool } from './instances/sandbox.ts'
import { createSlots } from './instances/slots.ts'
import { backgroundOf, takeStock } from './instances/stock.ts'
import { createVolumes } from './instances/volumes.ts'
import { createLeads } from './leads.ts'
import { followJournal } from './leases/journal.ts'
import { loadOffsets } from './leases/offsets.ts'
import { followLeases } from './leases/source.ts'
import { createLink, type Link } from './link.ts'
import { hostFiles } from './networks/host-files.ts'
import { createNetworks } from './networks/networks.ts'
import { ownAddress } from './own-address.ts'
import { createRequests } from './requests.ts'
import type { Settings } from './settings.ts'
import { createStanding, type Standing } from './standing.ts'
import { followTasks } from './tasks/follow.ts'
import { createTasks } from './tasks/tasks.ts'
import { watchEngine } from './watch.ts'
import { connectWiring } from './wiring/service/remote.ts'

/** The daemon as it runs. */
export interface Daemon {
  /** Finishes the work under way, for a while, and ends; instances go on. */
  stop(): Promise<void>
}

/** Milliseconds that work under way gets when the daemon stops. */
const FINISH_MS = 10_000
/** Milliseconds between two looks at whether our firewall tables are still there. */
const GUARD_MS = 5_000
/** Milliseconds between two looks at which images are not needed any more. */
const CLEAR_MS = 600_000
/** Milliseconds between two reports of what the firewall dropped. */
const COUNT_MS = 10_000

/**
 * Puts all parts together. Resolves when the journal is followed and the engine has answered and been looked through;
 * until an engine, bridge or orchestrator is there it tries on.
 * @param status told in a few words how it stands, at every change
 * @throws OrchestratorError when this host has not joined, or its state cannot be read
 */
export async function startDaemon(
  settings: Settings,
  version: string,
  log: Log,
  status: (text: string) => void,
): Promise<Daemon> {
  const host = settings['host.name']
  const state = settings['state.directory']
  const now = Date.now
  await loadIdentity(state)
  const engine = dockerEngine(settings['docker.socket'], (remark) => log.warn('engine.remark', remark))
  let standing: Standing | null = null
  const { wiring, interfaces } = connectWiring({
    socket: settings['wiring.socket'],
    version,
    log: (level, message, fields) => log[level]('wiring', message, fields),
    changed: (state) => standing?.wiringChanged(state),
  })
  const slots = createSlots(settings['engine.parallel'])
  const names = hostsDirectory({ directory: settings['names.directory'], domain: settings['names.domain'] })
  const orders = createOrders({ directory: join(state, 'generations'), now })
  const gateway = settings['network.gateway']
  const pool = createSandboxPool({ engine, wiring, slots, log, host, gateway, size: settings['pool.size'] })
  const networks = createNetworks({
    ...{ engine, wiring, host },
    files: hostFiles({ directory: join(state, 'hosts') }),
    around: {
      instances: prefixOf(parseIpv6(gateway), settings['network.prefix-length']),
      myAddress: parseIpv6(settings['network.my-address']),
    },
  })
  const files = createFiles({ directory: settings['files.directory'] })
  const volumes = createVolumes({ engine })
  const { stock, builder } = await startImages({ settings, log, notice: (...news) => notice(...news), now })
  const images = createImages({ engine: stock, log, now })
  const restarts = createRestarts(now)
  const assembly = createAssembly({
    ...{ engine, wiring, interfaces, networks, files, volumes, images, pool, slots, names, orders, restarts },
    ...{ host, log, now },
  })
  const background = backgroundOf(log)
  const stopping = new AbortController()

  let link: Link | null = null
  let linkStatus = ''
  const tellStatus = () => {
    const fault = standing?.fault() ?? null
    status(fault === null ? linkStatus : `${linkStatus}; ${wording(fault, 300)}`)
  }
  const tell = (observed: WireObserved) => link?.observed(observed)
  const notice: Notice = (level, code, message) => {
    log[level === 'warning' ? 'warn' : level](`notice.${code}`, message)
    link?.notice({ level, code, message: message.slice(0, 4000) })
  }
  const instances = createInstances({ engine, assembly, orders, host, log, now, tell })
  let address = ownAddress(settings['network.address'], undefined)
  const leads = createLeads({ wiring, file: join(state, 'ways.json'), address: () => address, notice, now })
  const tasks = createTasks({ engine, wiring, host, log, notice })
  const takeStockNow = async () => {
    await wiring.prepare({
      bridge: settings['network.bridge'],
      gateway,
      prefixLength: settings['network.prefix-length'],
      myAddress: settings['network.my-address'],
    })
    await ensurePauseImage(engine)
    await instances.settled()
    await takeStock({
      ...{
        engine,
        wiring,
        pool,
        orders,
        names,
        networks,
        instances,
        tasks,
        leads,
        host,
        log,
        holds: assembly.holds,
        background,
      },
    })
  }
  const { signal } = stopping
  standing = createStanding({ takeStock: takeStockNow, notice, host, changed: tellStatus, signal })
  const { beside, engineReturned, engineAway } = standing
  const request = createRequests({ instances, standing, stock, builder, leads, log })
  const hello = async () => ({ version, facts: await factsOf(engine, orders.count()) })
  const outputs = createOutputs({ engine, orders, notice, now })
  link = createLink({
    url: settings['server.url'],
    identity: () => loadIdentity(state),
    address: (local) => {
      address = ownAddress(settings['network.address'], local)
      return address
    },
    ...{ hello, request, log, connected: outputs.repeat },
    status: (text) => {
      linkStatus = text
      tellStatus()
    },
  })

  const filesFault = await files.fault()
  if (filesFault !== null) notice('warning', filesFault.code, `host ${host}: ${wording(filesFault)}`)
  await orders.load()
  await leads.load()
  const { offsets, unreadable } = await loadOffsets(join(state, 'journal.json'))
  if (unreadable)
    notice('warning', 'journal-offset-lost', 'the saved journal offset cannot be read; reading from the beginning')
  const journal = await followJournal({ path: settings['leases.journal'], offsets, log, now })

  // Before that the orchestrator could ask for nothing; leases flow even where the engine is away.
  const firstOutcome = Promise.withResolvers<void>()
  const returned = () => engineReturned().then(firstOutcome.resolve)
  const away = (error: unknown) => {
    engineAway(error)
    firstOutcome.resolve()
  }
  const watching = watchEngine({
    ...{ engine, pool, instances, restarts, host, log, now, notice, returned, away, background, signal },
  })
  const compareMs = settings['leases.compare-seconds'] * 1000
  const configPath = settings['leases.dnsmasq-config']
  const following = followLeases({ journal, sink: link, configPath, compareMs, log, now, notice }, signal)
  const hanging = new AbortController()
  const linked = firstOutcome.promise.then(() => link.run(hanging.signal))
  const graceMs = settings['orphans.grace-seconds'] * 1000
  const collector = createOrphanCollector({
    ...{ engine, wiring, interfaces, pool, orders, files, instances, tasks, host, graceMs, log, now },
    holds: assembly.holds,
  })
  // Several times within their grace period, at least every minute and at most every two seconds.
  const collectMs = Math.min(60_000, Math.max(2_000, graceMs / 4))
  const collecting = regularly('look for leftovers', collectMs, () => beside(collector.collect), log, signal)
  const guarding = regularly('look at the firewall', GUARD_MS, () => beside(wiring.guard), log, signal)
  const followingTasks = followTasks({ engine, tasks, standing, now, background, signal })
  const reading = outputs.watch(signal, instances.tellOutputs)
  const count = async () => link.dropped(await wiring.counters())
  const clearing = regularly('take away images', CLEAR_MS, stock.prune, log, signal)
  const counting = regularly('count what the firewall dropped', COUNT_MS, () => beside(count), log, signal)

  return {
    async stop() {
      standing.stop()
      instances.stop()
      await Promise.race([instances.settled(), wait(FINISH_MS)])
      stopping.abort(new Error('unionize is stopping'))
      await Promise.all([pool.stop(), stock.stop()])
      await Promise.all([following, followingTasks, watching, collecting, guarding, clearing, counting, reading])
      hanging.abort(new Error('unionize is stopping'))
      await linked
      await journal.close()
      await wiring.stop()
    },
  }
}

type Notice = (level: 'info' | 'warning' | 'error', code: string, message: string) => void

/** What the orchestrator is told of this host; an engine that is away does not keep leases from flowing. */
async function factsOf(engine: ReturnType<typeof dockerEngine>, instances: number) {
  const engineFact = await engine.version(AbortSignal.timeout(2_000)).catch((error) => `away: ${wording(error, 200)}`)
  return { engine: engineFact.slice(0, 256), kernel: `Linux ${release()}`, instances }
}

/** Does the same work again and again until aborted; what goes wrong is logged and tried again the next time. */
async function regularly(
  what: string,
  everyMs: number,
  work: () => Promise<unknown>,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await wait(everyMs, undefined, { signal }).catch(() => {})
    if (signal.aborted) return
    await work().catch((error) => log.warn('regular.failed', `could not ${what}`, { error: wording(error) }))
  }
}
