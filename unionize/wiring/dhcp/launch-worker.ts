import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { sendable } from '../errors.ts'
import { OWN_FOLDER, seclude } from '../kernel/seclusion.ts'
import type { Launched, Launching } from './launch.ts'

/**
 * The thread from which one client is started. A program inherits root and network namespace of the thread that starts
 * it; this one enters those of the client, and ends when the client has gone to the background.
 */
const port = parentPort
if (port === null) throw new Error('this file is a worker of unionize/wiring/dhcp/launch.ts')

/** All that dhcpcd needs: addresses and routes, packet sockets, the ports 68 and 546. */
const CAPABILITIES = '-all,+net_admin,+net_raw,+net_bind_service'
/**
 * Milliseconds until a start counts as failed; it takes some 0.1 s. The program that starts waits for ever when the one that
 * it became in the background dies before its first word (seen: 9.4.1).
 */
const STARTING_MS = 10_000
/** dhcpcd's own places. */
const LINKS = { '/run': `${OWN_FOLDER}/run`, '/var/lib/dhcpcd': `${OWN_FOLDER}/db` }

async function launch({ namespace, folder, interfaceName }: Launching): Promise<Launched> {
  seclude(namespace, folder, LINKS)
  const root = process.geteuid?.() === 0
  const child = spawn(
    '/usr/bin/setpriv',
    [
      '--no-new-privs',
      // Only who may change it can drop it, and only root gets anything out of it.
      ...(root ? [`--bounding-set=${CAPABILITIES}`] : []),
      `--inh-caps=${CAPABILITIES}`,
      `--ambient-caps=${CAPABILITIES}`,
      '/usr/sbin/dhcpcd',
      '--background',
      '--config',
      `${OWN_FOLDER}/dhcpcd.conf`,
      '--script',
      `${OWN_FOLDER}/hook`,
      interfaceName,
    ],
    { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    if (said.length < 4000) said += chunk
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), STARTING_MS)
  // Not `close`: the client keeps its error output.
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  clearTimeout(timer)
  child.stderr.destroy()
  return { code, signal, said }
}

launch(workerData as Launching).then(
  (launched) => port.postMessage({ launched }),
  (thrown: unknown) => port.postMessage({ error: sendable(thrown) }),
)
