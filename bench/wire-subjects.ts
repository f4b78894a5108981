import { spawn } from 'node:child_process'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { wiringShape } from '../common/wiring-spec.ts'
import { Contents } from '../unionize/wiring/firewall/contents.ts'
import type { Interfaces, Target } from '../unionize/wiring/interfaces/interfaces.ts'
import { connectWiring } from '../unionize/wiring/service/remote.ts'
import type { Wiring } from '../unionize/wiring/wiring.ts'
import { feed, NETWORK, type Promised, run, type Sandbox, type WireLab } from './wire-lab.ts'

/** Milliseconds of one wiring, by what was measured. */
export type Times = Readonly<Record<string, number>>

/** One way to wire. */
export interface Subject {
  readonly name: string
  /** How many are wired each round; slow ones fewer. */
  readonly batch: number
  /** From nothing to an address that packets reach. */
  wire(sandbox: Sandbox): Promise<Times>
  /** Another address in the place of the first one; absent: there is no such thing. */
  readonly change?: (sandbox: Sandbox) => Promise<Times>
  /** All of it is gone afterwards. */
  unwire(sandboxes: readonly Sandbox[]): Promise<void>
  promised(sandbox: Sandbox, changed: boolean): Promised
  /** Milliseconds of a processor that wiring has taken so far: unlike others they do not grow with what else runs. */
  readonly processor?: () => number
}

/** What is ours: the wiring process with its clients. */
export interface Ours {
  readonly wiring: Wiring
  readonly interfaces: Interfaces
  readonly subject: Subject
}

const guarded = (sandbox: Sandbox, changed: boolean): Promised => ({
  link: sandbox.link,
  address: changed ? sandbox.other : sandbox.address,
  guarded: true,
})

/** Of the main thread: the first field of /proc/PID/schedstat, in nanoseconds. */
function processorOf(pid: number | undefined): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

/** The wiring as `unionize` has it: in a process of its own, asked over a socket and measured by the one who asks. */
export async function ours(lab: WireLab, batch: number): Promise<Ours> {
  const socket = join(lab.folder, 'wiring.sock')
  const service = await lab.start('wire-service.ts', socket, join(lab.folder, 'declared'))
  const { wiring, interfaces } = connectWiring({
    socket,
    version: 'bench',
    log: (level, message, fields) => process.stderr.write(`${level}: ${message} ${JSON.stringify(fields)}\n`),
  })
  await wiring.prepare(NETWORK)
  const subject: Subject = {
    name: 'unionize',
    batch,
    async wire(sandbox) {
      const attach = await timed(() => wiring.attach(sandbox))
      const place = await timed(() => wiring.place(sandbox))
      return { attach, place, wire: attach + place }
    },
    change: async (sandbox) => ({ change: await timed(() => wiring.place({ ...sandbox, address: sandbox.other })) }),
    unwire: async (sandboxes) => {
      await Promise.all(sandboxes.map((sandbox) => wiring.detach(sandbox.link)))
    },
    promised: guarded,
    processor: () => {
      const { user, system } = process.threadCpuUsage()
      return processorOf(service.pid) + (user + system) / 1000
    },
  }
  return { wiring, interfaces, subject }
}

/** The declared wiring: the same face that `unionize wire` uses. */
export function declared(interfaces: Interfaces, batch: number): Subject {
  const target = ({ pid, link }: Sandbox): Target => ({ key: `bench:${link}`, label: link, namespace: { pid } })
  const spec = (sandbox: Sandbox, address: string) =>
    wiringShape.parse({
      interfaces: [
        {
          name: 'eth0',
          hostName: sandbox.link,
          link: { kind: 'bridge', bridge: NETWORK.bridge, create: false, isolated: true },
          mac: sandbox.mac,
          addresses: [`${address}/${NETWORK.prefixLength}`],
          gateways: [NETWORK.gateway],
          announce: false,
        },
      ],
    })
  return {
    name: 'unionize wire (declared)',
    batch,
    async wire(sandbox) {
      const wanted = spec(sandbox, sandbox.address)
      return { wire: await timed(() => interfaces.wire(target(sandbox), wanted)) }
    },
    async change(sandbox) {
      const wanted = spec(sandbox, sandbox.other)
      return { change: await timed(() => interfaces.wire(target(sandbox), wanted)) }
    },
    async unwire(sandboxes) {
      for (const sandbox of sandboxes) await interfaces.unwire(target(sandbox).key)
    },
    promised: (sandbox, changed) => ({ ...guarded(sandbox, changed), guarded: false }),
  }
}

/** The C program: it measures itself, so that neither pipe nor scheduler is counted. */
export function compiled(lab: WireLab, batch: number): Subject {
  const child = spawn(lab.program, { stdio: ['pipe', 'pipe', 'inherit'] })
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ask = async (...words: readonly (string | number)[]): Promise<number> => {
    child.stdin.write(`${words.join(' ')}\n`)
    const { value, done } = await answers.next()
    if (done) throw new Error(`the C program ended at "${words.join(' ')}"`)
    return Number(value) / 1e6
  }
  const { bridge, gateway, prefixLength } = NETWORK
  const contents = new Contents([], [])
  const place = async (sandbox: Sandbox, address: string, former: string[]): Promise<number> => {
    const { pid, link, mac, owner } = sandbox
    const routed = await ask('place', bridge, pid, link, mac, gateway, prefixLength, address, ...former)
    const plan = contents.plan({
      guard: { link, sources: [{ link, mac, address }] },
      close: former.map((instance) => ({ owner, instance })),
      open: [{ owner, instance: address }],
    })
    const filtered = await ask('nft', plan.commands.join('; '))
    plan.commit()
    return routed + filtered
  }
  return {
    name: 'C program',
    batch,
    async wire(sandbox) {
      const attach = await ask('attach', bridge, sandbox.pid, sandbox.link, sandbox.mac)
      const placed = await place(sandbox, sandbox.address, [])
      return { attach, place: placed, wire: attach + placed }
    },
    change: async (sandbox) => ({ change: await place(sandbox, sandbox.other, [sandbox.address]) }),
    async unwire(sandboxes) {
      for (const { link, owner, address, other } of sandboxes) {
        const close = [address, other].map((instance) => ({ owner, instance }))
        const plan = contents.plan({ guard: { link, sources: [] }, close })
        await ask('nft', plan.commands.join('; '))
        plan.commit()
        await ask('detach', link)
        run('ip', '-6', 'neigh', 'flush', 'dev', bridge, 'nud', 'permanent')
      }
    },
    promised: guarded,
    processor: () => processorOf(child.pid),
  }
}

/** What one writes who knows `ip`: two batches, and neither a guard nor waiting. */
export function batches(batch: number): Subject {
  return {
    name: 'ip -batch',
    batch,
    async wire(sandbox) {
      const { pid, link, mac, address } = sandbox
      const outside = [
        `link add ${link} mtu 1500 master ${NETWORK.bridge} type veth peer name eth0 address ${mac} mtu 1500 netns ${pid}`,
        `link set ${link} type bridge_slave learning off flood off isolated on`,
        `link set ${link} addrgenmode none up`,
      ]
      const inside = [
        'link set eth0 addrgenmode none up',
        `address add ${address}/${NETWORK.prefixLength} dev eth0 nodad`,
        `route add default via ${NETWORK.gateway}`,
      ]
      const work = async () => {
        feed(outside.join('\n'), 'ip', '-batch', '-')
        feed(inside.join('\n'), 'nsenter', '-n', '-t', String(pid), 'ip', '-batch', '-')
      }
      return { wire: await timed(work) }
    },
    async unwire(sandboxes) {
      feed(sandboxes.map(({ link }) => `link delete ${link}`).join('\n'), 'ip', '-batch', '-')
    },
    promised: (sandbox) => ({ link: sandbox.link, address: sandbox.address, guarded: false }),
  }
}

/**
 * pipework, as it is given. In the place of `docker inspect` it gets a script that says the process at once: the engine's
 * time is not pipework's.
 */
export function pipework(lab: WireLab, program: string, batch: number): Subject {
  if (!existsSync(program)) throw new Error(`--pipework: there is no ${program}`)
  const folder = join(lab.folder, 'docker')
  writeFileSync(folder, '#!/bin/sh\necho "$BENCH_PID"\n')
  chmodSync(folder, 0o755)
  process.env['PATH'] = `${lab.folder}:${process.env['PATH']}`
  return {
    name: 'pipework',
    batch,
    async wire(sandbox) {
      process.env['BENCH_PID'] = String(sandbox.pid)
      const address = `${sandbox.address}/${NETWORK.prefixLength}@${NETWORK.gateway}`
      const args = [NETWORK.bridge, '-i', 'eth0', '-l', sandbox.link, '-a', '6', `bench-${sandbox.link}`]
      return { wire: await timed(async () => run(program, ...args, address, sandbox.mac)) }
    },
    async unwire(sandboxes) {
      feed(sandboxes.map(({ link }) => `link delete ${link}`).join('\n'), 'ip', '-batch', '-')
    },
    promised: (sandbox) => ({ link: sandbox.link, address: sandbox.address, guarded: false }),
  }
}
