import { errorCode, wording } from '../../../common/errors.ts'
import { keepRunning } from '../../running.ts'
import type { WiringSettings } from './become.ts'
import { startWiringService } from './service.ts'

/** The program of the wiring process; become.ts starts it. Argument: {@link WiringSettings} as JSON. */
const { level, ...settings } = JSON.parse(process.argv[2] ?? '') as WiringSettings

await keepRunning({
  name: 'unionize-wiring',
  level,
  start: (log, status) => {
    status(`listening on ${settings.socket}`)
    return startWiringService({
      ...settings,
      log: (at, message, fields) => log[at]('wiring', message, fields),
    })
  },
  ready: `listening on ${settings.socket}`,
}).catch((error) => {
  process.stderr.write(`unionize: ${wording(error)} (${errorCode(error)})\n`)
  process.exit(1)
})
