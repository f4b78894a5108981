import type { ServiceSpec } from '../../../../common/service-spec.ts'
import type { Order } from '../../../domain/instance.ts'
import { checkNetworks } from '../../one-network.ts'
import { containerName, type Engine, filePath, HOME, planContainer } from './container.ts'
import { commandLine, word } from './shell.ts'

/** A file that the machine gets before its services start; owned by root. */
export interface BootFile {
  readonly path: string
  readonly mode: number
  readonly content: Uint8Array
}

/** A systemd unit that is started at each boot. */
export interface BootUnit {
  readonly name: string
  readonly content: string
}

/** What a machine must have to be the instance, whatever reads it at the first boot. */
export interface BootContent {
  readonly hostname: string
  readonly directories: readonly { readonly path: string; readonly mode: number }[]
  readonly files: readonly BootFile[]
  readonly units: readonly BootUnit[]
}

/** Before the outputs on a line of the machine's console, in base64. */
export const OUTPUTS_MARK = 'orchestrator-outputs: '
/**
 * Bytes of outputs that a machine tells: some providers keep 64 KiB of console, which hold them once in base64. A multiple
 * of three: one byte more makes a longer text.
 */
export const OUTPUTS_BYTES = 30_000

/**
 * Everything that makes a machine the instance: a unit for each service that keeps its container running, what these are
 * given, and, where it has outputs, a unit that tells them on the console. What services are given lies on the machine's
 * disk, where root alone gets: it must be there after a reboot too, when nobody brings it again.
 * @throws InvalidInput naming what cannot be expressed
 */
export function bootContent(order: Order, engine: Engine): BootContent {
  checkNetworks(order)
  const services = order.services.map((service) => ({
    service,
    folder: `${HOME}/services/${service.name}`,
    plan: planContainer(order, service, engine),
  }))
  return {
    hostname: order.name,
    directories: [
      { path: HOME, mode: 0o700 },
      { path: `${HOME}/services`, mode: 0o700 },
      ...services.flatMap(({ folder }) => [folder, `${folder}/files`].map((path) => ({ path, mode: 0o700 }))),
      // Whatever user a service runs as writes its outputs there; root alone gets to it from outside.
      ...(order.outputs ? [{ path: `${HOME}/told`, mode: 0o777 }] : []),
    ],
    files: [
      ...services.flatMap(({ service, folder, plan }) => [
        ...service.files.map(({ content, mode }, at) => ({
          path: filePath(service.name, at),
          mode,
          content: Buffer.from(content, 'base64'),
        })),
        ...(plan.fileLines.length === 0
          ? []
          : [{ path: `${folder}/environment`, mode: 0o400, content: text(plan.fileLines) }]),
        { path: `${folder}/create`, mode: 0o500, content: text(createScript(service, plan, engine)) },
      ]),
      ...(order.outputs ? [{ path: `${HOME}/tell`, mode: 0o500, content: text([TELL]) }] : []),
    ],
    units: [
      ...order.services.map((service) => serviceUnit(order, service, engine)),
      ...(order.outputs ? [{ name: 'orchestrator-tell.service', content: TELL_UNIT }] : []),
    ],
  }
}

/** Seconds until a container is made again that could not be. */
const CREATE_AGAIN_SECONDS = 10

/** Makes the container anew, when those are ready that it depends on. */
function createScript(service: ServiceSpec, plan: ReturnType<typeof planContainer>, engine: Engine): string[] {
  return [
    '#!/bin/sh',
    'set -eu',
    ...service.dependsOn.map(({ service: other, condition }) => waitFor(containerName(other), condition, engine)),
    ...Object.entries(plan.exported).map(([name, value]) => `export ${name}=${word(value)}`),
    // An image that cannot be fetched yet is no reason to give up, whatever its service says of restarts.
    'while :; do',
    `${engine} rm --force --volumes ${plan.name} >/dev/null 2>&1 || true`,
    `if said=$(${commandLine([engine, 'create', ...plan.arguments])} 2>&1 >/dev/null); then exit 0; fi`,
    `printf '%s\\n' "$said" | systemd-cat -p err -t ${plan.name}`,
    `sleep ${CREATE_AGAIN_SECONDS}`,
    'done',
  ]
}

function waitFor(name: string, condition: 'started' | 'healthy' | 'completed', engine: Engine): string {
  const shown = (format: string) => `$(${engine} inspect --format '${format}' ${name} 2>/dev/null || echo none)`
  const until = (test: string) => `until ${test}; do sleep 1; done`
  if (condition === 'completed') return until(`[ "${shown('{{.State.Status}} {{.State.ExitCode}}')}" = 'exited 0' ]`)
  // The year 1 is when a container was started that never was.
  if (condition === 'started') return until(`case ${shown('{{.State.StartedAt}}')} in none|0001-*) false ;; esac`)
  if (engine === 'docker') return until(`[ "${shown('{{.State.Health.Status}}')}" = healthy ]`)
  return until(`podman healthcheck run ${name} >/dev/null 2>&1`)
}

const RESTART = { always: 'always', 'on-failure': 'on-failure', no: 'no' } as const

function serviceUnit(order: Order, service: ServiceSpec, engine: Engine): BootUnit {
  const daemon = engine === 'docker' ? ' docker.service' : ''
  const name = containerName(service.name)
  const path = `/usr/bin/${engine}`
  return {
    name: unitName(service.name),
    content: `[Unit]
Description=${order.name}: service ${service.name}
After=network-online.target${daemon}
Wants=network-online.target${daemon}
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStartPre=${HOME}/services/${service.name}/create
ExecStart=${path} start --attach ${name}
ExecStop=${path} stop ${name}
TimeoutStartSec=infinity
TimeoutStopSec=${Math.ceil(service.stopGraceMs / 1000) + 30}
Restart=${RESTART[service.restart]}
RestartSec=2
StandardOutput=null

[Install]
WantedBy=multi-user.target
`,
  }
}

export function unitName(service: string): string {
  return `orchestrator-${service}.service`
}

/**
 * Looks every few seconds. Services own the folder: what they put there as a link, a pipe or more than is told is not
 * read. It is told anew once in a while: consoles forget.
 */
const TELL = `#!/bin/sh
set -u
file=${HOME}/told/outputs.json
last='' round=0
while :; do
  text=$(dd if="$file" iflag=nofollow,nonblock,fullblock bs=${OUTPUTS_BYTES + 1} count=1 2>/dev/null | base64 -w 0)
  round=$((round + 1))
  if [ -n "$text" ] && [ \${#text} -le ${(OUTPUTS_BYTES / 3) * 4} ]; then
    if [ "$text" != "$last" ] || [ "$round" -ge 120 ]; then
      printf '\\n%s%s\\n' '${OUTPUTS_MARK}' "$text" >/dev/console
      last=$text round=0
    fi
  fi
  sleep 5
done`

const TELL_UNIT = `[Unit]
Description=tells the outputs of the instance on the console

[Service]
ExecStart=${HOME}/tell
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
`

function text(lines: readonly string[]): Uint8Array {
  return Buffer.from(`${lines.join('\n')}\n`)
}
