import { OrchestratorError, wording } from '../../common/errors.ts'
import type { Log } from '../../common/log.ts'
import { TASK_LABEL, TASK_ROLE, type TaskPlace, taskPlaceShape } from '../../common/task-place.ts'
import type { ContainerEvent } from '../engine/answers.ts'
import type { Engine } from '../engine/containers.ts'
import { hasCode } from '../engine/failure.ts'
import { portOf } from '../instances/sandbox.ts'
import type { Passage, Placement, Source, Wiring } from '../wiring/wiring.ts'

/**
 * Containers that a Docker Swarm made on this host for instances of ours. The engine gave them namespaces of their own;
 * they are wired onto the instances' bridge beside whatever networks the swarm put them on.
 */
export interface Tasks {
  /** Looks which of them run, and returns what the firewall must hold for them. */
  stock(): Promise<{ readonly paths: readonly Passage[]; readonly sources: readonly Source[] }>
  /**
   * Wires those that run and are not wired yet. What cannot be is told once, and tried again at the next call. After an event
   * that was missed it looks first which of them run: all that can be unwired and wired are, then the first failure is
   * thrown.
   */
  mend(): Promise<void>
  /** One of them started or ended. */
  happened(event: ContainerEvent): Promise<void>
  /** One of them started or ended, and nothing could be done. */
  missed(): void
  /** Names of the links of those that are known: no leftovers. */
  links(): ReadonlySet<string>
}

/** Of our interface inside: the engine calls its own eth0, eth1, and so on. */
const INSIDE = 'instance0'
/** A pid that no process has (PID_MAX_LIMIT in linux/threads.h is 2^22): the task has ended, so nothing inside is undone. */
const NO_PROCESS = 0x7fff_ffff

/** One task as it is known: by the id of its container. */
interface Task {
  readonly id: string
  readonly place: TaskPlace
  wired: boolean
  /** Why it is not, as told last. */
  fault: string | null
}

export function createTasks(parts: {
  readonly engine: Pick<Engine, 'list' | 'inspect'>
  readonly wiring: Pick<Wiring, 'attach' | 'place' | 'unplace' | 'detach'>
  readonly host: string
  readonly log: Log
  readonly notice: (level: 'warning', code: string, message: string) => void
}): Tasks {
  const { engine, wiring, host, log, notice } = parts
  const known = new Map<string, Task>()
  let missed = false
  /** The end of what is under way for one task: its start and its end come one after the other. */
  const turns = new Map<string, Promise<void>>()

  const inTurn = (id: string, work: () => Promise<void>): Promise<void> => {
    const turn = (turns.get(id) ?? Promise.resolve()).then(work)
    const settled = turn.catch(() => {})
    turns.set(id, settled)
    void settled.then(() => {
      if (turns.get(id) === settled) turns.delete(id)
    })
    return turn
  }
  /** Notes a task that runs, unless it is known or its label cannot be read. */
  const note = (id: string, labels: Readonly<Record<string, string>>): Task | null => {
    const found = known.get(id)
    if (found !== undefined) return found
    const place = placeOf(labels)
    if (place === null) {
      log.warn('task.unreadable', 'a task says in a way that is not understood where it belongs', { container: id })
      return null
    }
    const task: Task = { id, place, wired: false, fault: null }
    known.set(id, task)
    return task
  }

  const wire = async (task: Task): Promise<void> => {
    if (task.wired || known.get(task.id) !== task) return
    const { id, place } = task
    try {
      const found = await engine.inspect(id).catch((error) => {
        if (!hasCode(error, 'not-found')) throw error
        return null
      })
      if (!found?.running) return await unwire(task)
      const link = { pid: found.pid, ...portOf(id), inside: INSIDE }
      const placement: Placement = { ...link, ...fieldsOf(place, host) }
      await wiring.attach(link)
      await wiring.place(placement)
      task.wired = true
      task.fault = null
      log.info('task.wired', 'wired a task of a swarm', { instance: place.instance, address: place.address })
    } catch (error) {
      if (task.fault === wording(error)) return
      task.fault = wording(error)
      const message = `host ${host}: the task of instance ${place.instance} cannot be wired: ${task.fault}`
      notice('warning', 'task-not-wired', message)
    }
  }
  const unwire = async (task: Task): Promise<void> => {
    const { id, place } = task
    if (known.get(id) !== task) return
    const { link, mac } = portOf(id)
    await wiring.unplace({ pid: NO_PROCESS, link, mac, address: place.address, owner: place.owner })
    await wiring.detach(link)
    known.delete(id)
    log.info('task.unwired', 'a task of a swarm ended here', { instance: place.instance, address: place.address })
  }

  /** Finds what started and what ended since its events were missed. @returns why some that ended could not be unwired */
  const catchUp = async (): Promise<readonly unknown[]> => {
    missed = false
    try {
      const before = [...known.values()]
      const running = (await engine.list({ [TASK_LABEL.role]: TASK_ROLE })).filter((c) => c.running)
      const ids = new Set(running.map(({ id }) => id))
      for (const { id, labels } of running) note(id, labels)
      const ended = before.filter(({ id }) => !ids.has(id))
      const outcomes = await Promise.allSettled(ended.map((task) => inTurn(task.id, () => unwire(task))))
      const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []))
      if (failures.length > 0) missed = true
      return failures
    } catch (error) {
      missed = true
      throw error
    }
  }

  return {
    async stock() {
      const running = (await engine.list({ [TASK_LABEL.role]: TASK_ROLE })).filter((c) => c.running)
      const ids = new Set(running.map(({ id }) => id))
      for (const id of known.keys()) if (!ids.has(id)) known.delete(id)
      const tasks = running.flatMap(({ id, labels }) => note(id, labels) ?? [])
      // What was wired before may have lost it since: a restart of the wiring process, of the bridge, of this one.
      for (const task of tasks) task.wired = false
      return {
        paths: tasks.flatMap(({ place }) => passageOf(place, host) ?? []),
        sources: tasks.map(({ id, place }) => ({ ...portOf(id), address: place.address, ...policyOf(place) })),
      }
    },
    async mend() {
      const failures = missed ? await catchUp() : []
      for (const task of [...known.values()].filter(({ wired }) => !wired)) await inTurn(task.id, () => wire(task))
      if (failures.length > 0) throw failures[0]
    },
    async happened({ action, id, labels }) {
      if (action === 'start') {
        const task = note(id, labels)
        if (task !== null) await inTurn(id, () => wire(task))
      } else if (action === 'die') {
        const task = known.get(id)
        if (task === undefined) return
        await inTurn(id, () => unwire(task)).catch((error) => {
          missed = true
          throw error
        })
      }
    },
    missed() {
      missed = true
    },
    links: () => new Set([...known.keys()].map((id) => portOf(id).link)),
  }
}

function placeOf(labels: Readonly<Record<string, string>>): TaskPlace | null {
  try {
    const parsed = taskPlaceShape.safeParse(JSON.parse(labels[TASK_LABEL.place] ?? ''))
    return parsed.success ? parsed.data : null
  } catch {
    return null // no JSON: as unreadable as any other
  }
}

/** @throws OrchestratorError `home-unknown` when its owner comes from a host without an address */
function fieldsOf(place: TaskPlace, host: string): Omit<Placement, 'pid' | 'link' | 'mac'> {
  return { address: place.address, owner: place.owner, ...viaOf(place, host), ...policyOf(place) }
}

/** null: there is no way to its owner. */
function passageOf(place: TaskPlace, host: string): Passage | null {
  if (place.home.name !== host && place.home.address === null) return null
  return { owner: place.owner, instance: place.address, ...viaOf(place, host) }
}

function viaOf({ home }: TaskPlace, host: string): { ownerVia?: string } {
  if (home.name === host) return {}
  if (home.address === null) {
    const message = `host ${home.name}, where its owner comes from, has told no address at which it is reached`
    throw new OrchestratorError('home-unknown', message)
  }
  return { ownerVia: home.address }
}

function policyOf({ policy }: TaskPlace): Pick<Source, 'policy'> {
  return policy === undefined ? {} : { policy }
}
