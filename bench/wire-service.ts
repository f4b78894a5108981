/** The wiring in a process of its own, as in production. Arguments: socket, directory for declared wirings. */
import { startWiringService } from '../unionize/wiring/service/service.ts'

const [socket = '', directory = ''] = process.argv.slice(2)
const service = await startWiringService({
  socket,
  directory,
  // None of the bench's namespaces belongs to a container.
  dockerSocket: `${directory}/docker.sock`,
  version: 'bench',
  log: (level, message, fields) => process.stderr.write(`${level}: ${message} ${JSON.stringify(fields)}\n`),
})
process.on('disconnect', () => void service.stop().finally(() => process.exit()))
process.send?.('listening')
