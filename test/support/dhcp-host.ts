/** The DHCP clients of the wiring in a process of their own, which can be killed. Arguments: state directory, grace in ms. */
import { type Dhcp, startDhcp } from '../../unionize/wiring/dhcp/dhcp.ts'
import { answer } from './wiring-remote.ts'

const [directory = '', graceMs = '5000'] = process.argv.slice(2)
const messages: { level: string; message: string; fields: Record<string, unknown> }[] = []
const dhcp: Dhcp = await startDhcp({
  directory,
  log: (level, message, fields) => messages.push({ level, message, fields }),
  graceMs: Number(graceMs),
})

answer({
  ready: () => true,
  keep: dhcp.keep,
  leaveFormer: dhcp.leaveFormer,
  release: dhcp.release,
  leases: (key: string) => [...dhcp.leases(key)],
  messages: () => messages,
  stop: dhcp.stop,
})
