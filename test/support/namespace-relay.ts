import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { answer, Remote } from './wiring-remote.ts'

const SELF = fileURLToPath(import.meta.url)

/** A TCP port of this machine's loopback that leads, byte by byte, to a port inside a network namespace. */
export interface NamespaceRelay extends AsyncDisposable {
  readonly port: number
}

/** @param socket path of a unix socket that it makes on its way */
export async function namespaceRelay(
  namespace: string,
  to: { readonly host: string; readonly port: number },
  socket: string,
): Promise<NamespaceRelay> {
  const command = [process.execPath, SELF, socket, to.host, String(to.port)]
  const inside = new Remote(['nsenter', `--net=/run/netns/${namespace}`, ...command])
  await inside.ask('ready')
  const server = relaying(() => createConnection(socket))
  await new Promise<void>((resolve) => server.listen(0, '::1', resolve))
  return {
    port: (server.address() as { port: number }).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      await inside.kill()
      await closed
    },
  }
}

function relaying(connect: () => Socket): Server {
  return createServer((from) => {
    const to = connect()
    for (const [one, other] of [[from, to] as const, [to, from] as const]) {
      one.on('error', () => {}).once('close', () => other.destroy())
      one.pipe(other)
    }
  })
}

if (process.argv[1] === SELF) {
  const [, , socket = '', host = '', port = ''] = process.argv
  const server = relaying(() => createConnection({ host, port: Number(port) }))
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  answer({ ready: () => true })
}
