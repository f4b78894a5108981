/** Declared wirings that are kept, in a process of their own. Arguments: state directory, socket of the engine. */
import type { WiringSpec } from '../../common/wiring-spec.ts'
import { dockerEngine } from '../../unionize/engine/containers.ts'
import { parseTarget, resolveTarget } from '../../unionize/targets.ts'
import { openLasting } from '../../unionize/wiring/lasting/lasting.ts'
import type { WiringLog } from '../../unionize/wiring/wiring.ts'
import { answer } from './wiring-remote.ts'

const [directory = '', socket = ''] = process.argv.slice(2)
const messages: string[] = []
const log: WiringLog = (level, message, fields) => messages.push(`${level} ${message} ${JSON.stringify(fields)}`)
const engine = dockerEngine(socket)
const keeper = await openLasting({ directory, dockerSocket: socket, log })

answer({
  ready: () => true,
  wire: async (name: string, spec: WiringSpec) => {
    const target = await resolveTarget(parseTarget(name), async () => engine)
    await keeper.wire(target, spec)
    return target.key
  },
  unwire: keeper.unwire,
  check: keeper.check,
  show: keeper.show,
  messages: () => messages,
  stop: keeper.stop,
})
