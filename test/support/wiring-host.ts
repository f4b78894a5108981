/** The wiring in a process of its own, in the lab's host namespace. Argument: the module folder, source or compiled. */
import { readdirSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import type { Lane as LaneType } from '../../unionize/wiring/threads/lane.ts'
import type * as WiringModule from '../../unionize/wiring/wiring.ts'
import { answer } from './wiring-remote.ts'

const [folder = new URL('../../unionize/wiring', import.meta.url).pathname, extension = 'ts'] = process.argv.slice(2)
const load = (name: string) => import(pathToFileURL(`${folder}/${name}.${extension}`).href)
const { wiringOver } = (await load('wiring')) as typeof WiringModule
const { Lane } = (await load('threads/lane')) as { Lane: typeof LaneType }

const messages: { level: string; message: string }[] = []
const log: WiringModule.WiringLog = (level, message) => messages.push({ level, message })
const quick = new Lane('quick', log)
const slow = new Lane('slow', log)
const wiring = wiringOver({ quick, slow })

answer({
  ...wiring,
  ready: () => true,
  killWorker: () => quick.kill(),
  messages: () => messages,
  fds: () => readdirSync('/proc/self/fd').length,
  timed,
})

type Verb = 'attach' | 'place' | 'unplace' | 'detach' | 'links'

/** Carries out calls one after another and returns how long each took, in milliseconds. */
async function timed(calls: readonly { verb: Verb; args: readonly never[] }[]): Promise<number[]> {
  const took: number[] = []
  for (const { verb, args } of calls) {
    const startedAt = performance.now()
    await (wiring[verb] as (...args: never[]) => Promise<void>)(...args)
    took.push(performance.now() - startedAt)
  }
  return took
}
