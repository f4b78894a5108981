/** The wiring that rejoins its bridge, in a process of its own, in the lab's host namespace. */
import { watchLinks } from '../../unionize/wiring/kernel/monitor.ts'
import { rejoining } from '../../unionize/wiring/rejoin.ts'
import { Lane } from '../../unionize/wiring/threads/lane.ts'
import { OwnThread } from '../../unionize/wiring/threads/own-thread.ts'
import { type WiringLog, wiringOver } from '../../unionize/wiring/wiring.ts'
import { answer } from './wiring-remote.ts'

const messages: string[] = []
const log: WiringLog = (level, message, fields) => messages.push(`${level} ${message} ${JSON.stringify(fields)}`)
const quick = new OwnThread(log)
const wiring = rejoining(wiringOver({ quick, slow: new Lane('slow', log) }), { kernel: quick, watchLinks, log })

answer({ ...wiring, ready: () => true, messages: () => messages })
