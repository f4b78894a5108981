import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run, waitFor } from './command.ts'
import { CACHE_DIRECTORY, SOURCE_DIRECTORY } from './places.ts'

const DEFINITION = join(SOURCE_DIRECTORY, 'systemd/sysusers.d/orchestrator.conf')
/** Names that the lab made and nobody else; it outlives a run that is killed, and a restart of the machine. */
const RECORD = join(CACHE_DIRECTORY, 'made-users.json')
const LOCK = join(CACHE_DIRECTORY, 'made-users.lock')

interface Made {
  readonly users: readonly string[]
  readonly groups: readonly string[]
  /** The processes that need them, as `pid:start time`; those that have ended do not count. */
  readonly holders: readonly string[]
}

const NOTHING: Made = { users: [], groups: [], holders: [] }

/** Makes the system users of an installation where they are missing, and remembers which those were. */
export async function makeUsers(signal?: AbortSignal): Promise<void> {
  await alone(() => makeMissing(signal))
}

async function makeMissing(signal: AbortSignal | undefined): Promise<void> {
  const definition = readFileSync(DEFINITION, 'utf8')
  const users = [...definition.matchAll(/^u\s+(\S+)/gm)].map((m) => m[1] ?? '')
  const groups = [...users, ...[...definition.matchAll(/^m\s+\S+\s+(\S+)/gm)].map((m) => m[1] ?? '')]
  const before = readRecord()
  const made: Made = {
    users: users.filter((name) => before.users.includes(name) || !has('/etc/passwd', name)),
    groups: groups.filter((name) => before.groups.includes(name) || !has('/etc/group', name)),
    holders: [...others(before), holder(process.pid)],
  }
  // Written first: a run that is killed in between must not leave users that nobody remembers.
  if (made.users.length + made.groups.length > 0) writeFileSync(RECORD, JSON.stringify(made))
  await run('systemd-sysusers', [DEFINITION], { signal })
}

/**
 * Removes the users and groups that {@link makeUsers} made, in this run or in an earlier one that was killed; while another
 * process needs them, they are left to that.
 */
export async function removeUsers(): Promise<void> {
  await alone(removeMade)
}

async function removeMade(): Promise<void> {
  const made = readRecord()
  const remaining = others(made)
  if (remaining.length > 0) {
    writeFileSync(RECORD, JSON.stringify({ ...made, holders: remaining }))
    return
  }
  for (const name of made.users) if (has('/etc/passwd', name)) await run('userdel', [name])
  for (const name of made.groups) if (has('/etc/group', name)) await run('groupdel', [name])
  rmSync(RECORD, { force: true })
}

/** Names of users and groups that the lab made, that are still there and that no other process needs. */
export function leftUsers(): string[] {
  const made = readRecord()
  if (others(made).length > 0) return []
  return [
    ...made.users.filter((name) => has('/etc/passwd', name)).map((name) => `user ${name}`),
    ...made.groups.filter((name) => has('/etc/group', name)).map((name) => `group ${name}`),
  ]
}

function readRecord(): Made {
  const text = readIfThere(RECORD)
  return text === '' ? NOTHING : { ...NOTHING, ...(JSON.parse(text) as Partial<Made>) }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

/** Runs `work` while no other process makes or removes users. */
async function alone(work: () => Promise<void>): Promise<void> {
  mkdirSync(CACHE_DIRECTORY, { recursive: true, mode: 0o755 })
  await waitFor(`the process that makes or removes users (${LOCK})`, () => {
    try {
      writeFileSync(LOCK, holder(process.pid), { flag: 'wx' })
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const text = readIfThere(LOCK)
    const killed = text !== '' && text !== holder(Number(text.split(':')[0]))
    if (killed) rmSync(LOCK, { force: true })
    return false
  })
  try {
    await work()
  } finally {
    rmSync(LOCK, { force: true })
  }
}

/** Holders other than this process that are alive. */
function others(made: Made): string[] {
  return made.holders.filter((text) => text !== holder(process.pid) && text === holder(Number(text.split(':')[0])))
}

/** A process told from a later one with the same number, by its start time (proc(5), field 22 of stat). */
function holder(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return `${pid}:${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`
  } catch {
    return `${pid}:gone`
  }
}

/** Numeric ids of a system user and its own group, for `chown`. */
export function idsOf(name: string): { readonly uid: number; readonly gid: number } {
  const [, , uid, gid] = (entry('/etc/passwd', name) ?? '').split(':')
  if (uid === undefined || gid === undefined) throw new Error(`there is no user ${name}`)
  return { uid: Number(uid), gid: Number(gid) }
}

function has(file: '/etc/passwd' | '/etc/group', name: string): boolean {
  return entry(file, name) !== undefined
}

function entry(file: '/etc/passwd' | '/etc/group', name: string): string | undefined {
  return readFileSync(file, 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${name}:`))
}
