import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { until } from './until.ts'

/** moto's server, which answers like AWS: `test/ec2/run.sh` installs it and says where. */
export interface Moto {
  readonly url: string
  /** All that it holds is forgotten. */
  reset(): Promise<void>
  close(): Promise<void>
}

export async function startMoto(): Promise<Moto> {
  const command = process.env['MOTO_SERVER']
  if (command === undefined) throw new Error('MOTO_SERVER is not set: run these tests with npm run test:ec2')
  const port = await freePort()
  const server = spawn(command, ['-H', '127.0.0.1', '-p', String(port)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    // Off unless asked for: it takes any name for a size, an image and a key pair.
    env: {
      ...process.env,
      MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION: 'true',
      MOTO_ENABLE_AMI_VALIDATION: 'true',
      MOTO_ENABLE_KEYPAIR_VALIDATION: 'true',
    },
  })
  let said = ''
  server.stderr.on('data', (text) => {
    said = `${said}${text}`.slice(-4000)
  })
  const url = `http://127.0.0.1:${port}`
  await until(
    'moto answers',
    async () => {
      if (server.exitCode !== null) throw new Error(`moto ended: ${said}`)
      return (await fetch(`${url}/moto-api/data.json`)).ok
    },
    { deadlineMs: 60_000, everyMs: 50 },
  )
  return {
    url,
    async reset() {
      const answer = await fetch(`${url}/moto-api/reset`, { method: 'POST' })
      if (!answer.ok) throw new Error(`moto did not reset: ${answer.status}`)
    },
    close: () => ended(server),
  }
}

function ended(server: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (server.exitCode !== null || server.signalCode !== null) return resolve()
    server.once('exit', () => resolve())
    server.kill('SIGKILL')
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = createServer()
    socket.once('error', reject)
    socket.listen(0, '127.0.0.1', () => {
      const address = socket.address()
      socket.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
