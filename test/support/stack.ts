import { execFileSync } from 'node:child_process'
import { rememberIfNew } from '../../lab/images.ts'
import type { WireOrder, WireService } from '../../unionize/contract.ts'
import { dockerEngine } from '../../unionize/engine/containers.ts'
import { importTinyImage } from './tiny-image.ts'
import { service, type UnionizeHost } from './unionize-host.ts'

const IMAGE = { name: 'orchestrator/stack-test', tag: '1' }

/** Gives the engine of a host the image that the services of stacks run. */
export async function provideStackImage(host: UnionizeHost): Promise<void> {
  await rememberIfNew(host.engine, `${IMAGE.name}:${IMAGE.tag}`)
  await importTinyImage(dockerEngine(host.engine.socket), { ...IMAGE, programs: ['busybox'] })
}

/** A service that runs a shell script. */
export function script(name: string, text: string, change: Partial<WireService> = {}): WireService {
  return service(name, {
    ...{ image: `${IMAGE.name}:${IMAGE.tag}`, entrypoint: ['/bin/sh', '-c', text], command: [] },
    ...{ memoryBytes: 64 << 20, pids: 64, ...change },
  })
}

/** Serves its own name over HTTP, after `before`. */
export function server(name: string, port: number, before: string, change: Partial<WireService> = {}): WireService {
  const page = `mkdir -p /tmp/pages && echo ${name} > /tmp/pages/who`
  return script(name, `${before}; ${page}; exec busybox httpd -f -p ${port} -h /tmp/pages`, change)
}

/** Looks often whether a command succeeds; `retries` failures in a row are unhealthy. */
export function check(command: string, retries = 100): WireService['healthcheck'] {
  return { test: ['CMD-SHELL', command], intervalMs: 100, timeoutMs: 5_000, retries }
}

export const on = (name: string, condition: WireService['dependsOn'][number]['condition'], restart = false) => ({
  dependsOn: [{ service: name, condition, restart }],
})

/** A service with a sandbox of its own, on these networks. */
export const behind = (...networks: string[]) => ({ sandbox: 'own' as const, ...member(...networks) })
export const member = (...networks: string[]) => ({
  networks: Object.fromEntries(networks.map((network) => [network, { aliases: [] }])),
})

/** A container of an order as the engine shows it. */
export async function inspect(host: UnionizeHost, order: WireOrder, name: string) {
  const found = await host.engine.docker.getContainer(container(order, name)).inspect()
  const startedAt = Date.parse(found.State.StartedAt)
  return { id: found.Id, pid: found.State.Pid, state: found.State.Status, startedAt }
}
export const container = (order: WireOrder, name: string) => `orc-${order.instance}-${name}`

/** Runs a command inside a container. */
export async function runInside(host: UnionizeHost, order: WireOrder, name: string, command: string): Promise<void> {
  const docker = host.engine.docker
  const exec = await docker.getContainer(container(order, name)).exec({ Cmd: ['/bin/sh', '-c', command] })
  await exec.start({ Detach: false }).then((stream) => stream.resume())
}

/** What a container has printed. */
export async function printed(host: UnionizeHost, order: WireOrder, name: string): Promise<string> {
  const log = await host.engine.docker
    .getContainer(container(order, name))
    .logs({ stdout: true, stderr: true, follow: false })
  return log.toString('utf8')
}

/** What is served at a URL, seen from a network namespace; null: nothing in time. */
export function fetched(namespace: readonly string[], url: string): string | null {
  try {
    const command = [...namespace, 'timeout', '1', 'busybox', 'wget', '-q', '-O', '-', url]
    return execFileSync('nsenter', command, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch (error) {
    // wget's own word, and timeout(1)'s.
    if ([1, 124].includes((error as { status?: number }).status ?? 0)) return null
    throw error
  }
}
/** The namespace of the n-th client of the lab; 1 is the owner, 2 the stranger. */
export const client = (number: number) => [`--net=/run/netns/wt-${process.pid}-c${number}`]
export const inNamespaceOf = (pid: number) => ['-n', '-t', String(pid)]
