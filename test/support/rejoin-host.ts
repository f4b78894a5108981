/** The wiring that rejoins its bridge, in a process of its own, in the lab's host namespace. */
import { watchLinks } from '../../unionize/wiring/kernel/monitor.ts'
import { rejoining } from '../../unionize/wiring/rejoin.ts'
import { startWiring, type WiringLog } from '../../unionize/wiring/wiring.ts'
import { answer } from './wiring-remote.ts'

const messages: string[] = []
const log: WiringLog = (level, message, fields) => messages.push(`${level} ${message} ${JSON.stringify(fields)}`)
const wiring = rejoining(startWiring({ log }), { watchLinks, log })

answer({ ...wiring, ready: () => true, messages: () => messages })
