import { createHash } from 'node:crypto'
import type { ServiceSpec } from '../../../common/service-spec.ts'
import type { Order } from '../../domain/instance.ts'
import {
  containerArguments,
  containerFlags,
  type Engine,
  environmentFile,
  filePath,
  hostsFile,
  isOfNetwork,
  labels,
  ownLabels,
} from './container-flags.ts'
import { NETWORK_UNIT, PLACES, SANDBOX_IMAGE, serviceOf, targetOf, UNIONIZE, wireOf } from './names.ts'
import { unitLine, unitWord } from './quoting.ts'

/** What a machine runs, as far as its units depend on it. */
export interface UnitGround {
  readonly installation: string
  readonly engine: Engine
  /** Absolute path of the engine's program. */
  readonly program: string
  /** Whether services are Quadlet files. */
  readonly quadlet: boolean
  /** Major version of systemd. */
  readonly systemd: number
  /** Addresses of name servers for instances. */
  readonly dns: readonly string[]
}

export interface MachineFile {
  /** Absolute path on the machine. */
  readonly path: string
  readonly content: string | Buffer
  /** Permission bits. */
  readonly mode: number
}

/** Everything of one instance on a machine. */
export interface UnitSet {
  readonly files: readonly MachineFile[]
  /** Follows from all of it but the generation: equal ones need no restart. */
  readonly digest: string
}

/** Milliseconds that a service waits for those it depends on, and for its container, before it is tried anew. */
const PATIENCE_S = 900

/**
 * The files of an instance: a target that holds it together, `orc-<id>-wire.service` for its network, a service for each
 * of its containers. @throws InvalidInput for what this backend cannot do
 */
export function unitsOf(order: Order, ground: UnitGround): UnitSet {
  const parts = (generation: string): MachineFile[] => {
    const mark = markOf(order, ground, generation)
    return [
      {
        path: `${PLACES.units}/${wireOf(order.instance)}.service`,
        content: wireUnit(order, ground) + mark,
        mode: 0o644,
      },
      ...order.services.map((service) => serviceFile(order, service, ground, mark)),
      ...(order.outputs ? outputUnits(order, mark) : []),
      ...order.services.flatMap((service) => belongings(order, service)),
      ...(order.wiring?.policy === undefined
        ? []
        : [{ path: policyPath(order), content: JSON.stringify(order.wiring.policy), mode: 0o600 }]),
    ]
  }
  const hash = createHash('sha256')
  for (const { path, content } of parts('')) hash.update(`\0${path}\0`).update(content)
  const digest = hash.digest('hex').slice(0, 32)
  const target = {
    path: `${PLACES.units}/${targetOf(order.instance)}`,
    content: `${targetUnit(order)}${markOf(order, ground, String(order.generation))}Digest=${digest}\n`,
    mode: 0o644,
  }
  return { files: [...parts(String(order.generation)), target], digest }
}

/** Read back by what lists instances; systemd ignores sections that begin with `X-` (systemd.unit(5)). */
function markOf(order: Order, { installation }: UnitGround, generation: string): string {
  const owner = `${order.owner.duid} ${order.owner.iaid}`
  return `
[X-Orchestrator]
Installation=${installation}
Instance=${order.instance}
Generation=${generation}
Owner=${owner}
Address=${order.address}
OwnerAddress=${order.ownerAddress}
`
}

function targetUnit(order: Order): string {
  const services = order.services.map(({ name }) => `${serviceOf(order.instance, name)}.service`)
  const outputs = order.outputs ? [`${outputsOf(order)}.path`] : []
  return `[Unit]
Description=Instance ${order.instance}
Wants=${[`${wireOf(order.instance)}.service`, ...services, ...outputs].join(' ')}

[Install]
WantedBy=multi-user.target
`
}

function wireUnit(order: Order, ground: UnitGround): string {
  const { instance, home } = order
  const { program, engine, dns } = ground
  const container = wireOf(instance)
  const folder = `${PLACES.memory}/${instance}`
  const sysctls = order.services
    .flatMap((service) => Object.entries(service.sysctls))
    .filter(([name]) => isOfNetwork(name))
  const run = [
    ...[program, 'run', ...once(engine), '--name', container, '--network', 'none', '--pull', 'never'],
    ...['--log-driver', 'none'],
    ...['--hostname', order.name, ...labels(ownLabels(order)), '--read-only', '--cap-drop', 'ALL'],
    ...['--security-opt', 'no-new-privileges', '--memory', '16m', '--pids-limit', '4', '--stop-timeout', '0'],
    ...dns.flatMap((address) => ['--dns', address]),
    ...['--sysctl', 'net.ipv6.conf.all.disable_ipv6=0', '--sysctl', 'net.ipv6.conf.default.disable_ipv6=0'],
    ...sysctls.flatMap(([name, value]) => ['--sysctl', `${name}=${value}`]),
    SANDBOX_IMAGE,
  ]
  const place = [
    ...[UNIONIZE, 'place', '--config', PLACES.settings, '--as', instance, '--address', order.address],
    ...['--owner', order.ownerAddress, ...(home.address === null ? [] : ['--owner-via', home.address])],
    ...(order.wiring?.policy === undefined ? [] : ['--policy', policyPath(order)]),
  ]
  const wired = `until pid=$(${program} inspect -f '{{.State.Pid}}' ${container} 2>/dev/null) && [ "$pid" -gt 0 ]; do
kill -0 "$MAINPID" || exit 1; sleep 0.1; done; exec "$@" "pid:$pid"`
  const outputs = `mkdir -p -m 700 ${PLACES.memory} "$1" && { mountpoint -q "$1/outputs" || {
mkdir -p "$1/outputs" && mount -t tmpfs -o size=1m,nr_inodes=64,mode=1777,nosuid,nodev,noexec orc-outputs "$1/outputs"; }; }`
  // They ended with a network that ended by itself (the engine was restarted), and nobody else starts them again.
  const lasting = order.services
    .filter(({ restart }) => restart !== 'no')
    .map(({ name }) => `${serviceOf(instance, name)}.service`)
  return `[Unit]
Description=Network of instance ${instance}
PartOf=${targetOf(instance)}
Requires=${NETWORK_UNIT}
After=${NETWORK_UNIT}${engine === 'docker' ? ' docker.service\nWants=docker.service' : ''}
StartLimitIntervalSec=0

[Service]
Type=exec
${order.outputs ? `ExecStartPre=/bin/sh -c ${unitWord(outputs)} sh ${unitWord(folder)}\n` : ''}ExecStartPre=-${unitLine([program, 'rm', '-f', '-v', container])}
ExecStart=${unitLine(run)}
ExecStartPost=/bin/sh -c ${unitWord(wired)} sh ${unitLine(place)}
ExecStartPost=-/bin/sh -c ${unitWord('exec systemctl start --no-block "$@"')} sh ${unitLine([...lasting, targetOf(instance)])}
ExecStop=-${unitLine([program, 'rm', '-f', '-v', container])}
ExecStopPost=-${unitLine([UNIONIZE, 'unplace', '--config', PLACES.settings, '--as', instance])}
ExecStopPost=-${unitLine([program, 'rm', '-f', '-v', container])}
TimeoutStartSec=120
TimeoutStopSec=60
Restart=always
${restartPace(ground)}
`
}

/**
 * Podman takes a container away when that ends. Docker would, too, but what it was killed over it then keeps in its list, without
 * a name, until it is started once more; the units take it away in any case.
 */
function once(engine: Engine): string[] {
  return engine === 'podman' ? ['--rm'] : []
}

function serviceFile(order: Order, service: ServiceSpec, ground: UnitGround, mark: string): MachineFile {
  const name = serviceOf(order.instance, service.name)
  if (ground.quadlet) {
    const path = `${PLACES.quadlets}/${name}.container`
    return { path, content: quadlet(order, service, ground) + mark, mode: 0o644 }
  }
  return { path: `${PLACES.units}/${name}.service`, content: serviceUnit(order, service, ground) + mark, mode: 0o644 }
}

function serviceUnit(order: Order, service: ServiceSpec, ground: UnitGround): string {
  const { program, engine } = ground
  const container = serviceOf(order.instance, service.name)
  const run = [
    ...[program, 'run', ...once(engine), '--name', container, ...containerFlags(order, service, engine)],
    ...[service.image, ...containerArguments(service)],
  ]
  return `${unitSection(order, service)}
[Service]
Type=exec
SyslogIdentifier=${container}
ExecStartPre=-${unitLine([program, 'rm', '-f', '-v', container])}
${waits(order, service, program)}ExecStart=${unitLine(run)}
ExecStartPost=/bin/sh -c ${unitWord(running(program, container))}
ExecStop=-${unitLine([program, 'stop', '-t', stopSeconds(service), container])}
ExecStopPost=-${unitLine([program, 'rm', '-f', '-v', container])}
${lifecycle(service, ground)}`
}

/** Podman's own way (podman-systemd.unit(5)): its generator makes the same unit of it, with `run --rm --replace`. */
function quadlet(order: Order, service: ServiceSpec, ground: UnitGround): string {
  const { program, engine } = ground
  const container = serviceOf(order.instance, service.name)
  const rest = containerArguments(service)
  // The generator says these itself.
  const flags = containerFlags(order, service, engine).filter(
    (flag, at, all) =>
      !['--pull', '--log-driver'].includes(flag) && !['--pull', '--log-driver'].includes(all[at - 1] ?? ''),
  )
  return `${unitSection(order, service)}
[Container]
ContainerName=${container}
Image=${service.image}
Pull=never
PodmanArgs=${unitLine(flags)}
${rest.length === 0 ? '' : `Exec=${unitLine(rest)}\n`}
[Service]
SyslogIdentifier=${container}
${waits(order, service, program)}${lifecycle(service, ground)}`
}

function unitSection(order: Order, service: ServiceSpec): string {
  const { instance, services } = order
  const wire = `${wireOf(instance)}.service`
  const others = service.dependsOn.map((one) => ({ ...one, unit: `${serviceOf(instance, one.service)}.service` }))
  const filed = services.some(({ files }) => files.length > 0)
  return `[Unit]
Description=Service ${service.name} of instance ${instance}
BindsTo=${wire}
After=${[wire, ...others.map(({ unit }) => unit)].join(' ')}
PartOf=${[targetOf(instance), ...others.filter(({ restart }) => restart).map(({ unit }) => unit)].join(' ')}
${filed ? `ConditionPathExists=${PLACES.memory}/${instance}/complete\n` : ''}StartLimitIntervalSec=0
`
}

/** Until a dependency is healthy or has ended well; one that has only to be started was, by `After=`. */
function waits(order: Order, service: ServiceSpec, program: string): string {
  return service.dependsOn
    .map(({ service: other, condition }) => {
      const container = serviceOf(order.instance, other)
      if (condition === 'healthy') {
        const look = `[ "$(${program} inspect -f '{{.State.Health.Status}}' ${container} 2>/dev/null)" = healthy ]`
        return `ExecStartPre=/bin/sh -c ${unitWord(`until ${look}; do sleep 1; done`)}\n`
      }
      if (condition === 'completed') {
        const look = `systemctl show -p ActiveState -p Result -p ExecMainExitTimestampMonotonic ${container}.service`
        const done = `case "$(${look} | sort | tr '\\n' ' ')" in
"ActiveState=inactive ExecMainExitTimestampMonotonic=0 "*) ;; "ActiveState=inactive "*"Result=success "*) exit 0 ;;
"ActiveState=failed "*) echo "${other} failed"; exit 1 ;; esac`
        return `ExecStartPre=/bin/sh -c ${unitWord(`while :; do ${done}; sleep 1; done`)}\n`
      }
      return ''
    })
    .join('')
}

/** The unit is active when its container runs, or has run already. */
function running(program: string, container: string): string {
  const look = `[ "$(${program} inspect -f '{{.State.Running}}' ${container} 2>/dev/null)" = true ]`
  return `while kill -0 "$MAINPID" 2>/dev/null; do ${look} && exit 0; sleep 0.2; done; exit 0`
}

function lifecycle(service: ServiceSpec, ground: UnitGround): string {
  return `TimeoutStartSec=${PATIENCE_S}
TimeoutStopSec=${Number(stopSeconds(service)) + 30}
Restart=${service.restart}
${restartPace(ground)}
`
}

/** Slower with each attempt where systemd can do that (254). */
function restartPace({ systemd }: UnitGround): string {
  return systemd >= 254 ? 'RestartSec=1\nRestartSteps=6\nRestartMaxDelaySec=60' : 'RestartSec=3'
}

function stopSeconds({ stopGraceMs }: ServiceSpec): string {
  return String(Math.ceil(stopGraceMs / 1000))
}

/**
 * A change of the outputs file is an event of systemd, which is all that is followed. Paths come before services, unless they
 * say otherwise (systemd.path(5), Default Dependencies); this one watches what a service has mounted.
 */
function outputUnits(order: Order, mark: string): MachineFile[] {
  const name = outputsOf(order)
  const file = `${PLACES.memory}/${order.instance}/outputs/outputs.json`
  const path = `[Unit]
Description=Outputs of instance ${order.instance}
PartOf=${targetOf(order.instance)}
DefaultDependencies=no
Conflicts=shutdown.target
After=${wireOf(order.instance)}.service
Before=shutdown.target

[Path]
PathChanged=${file}
`
  const service = `[Unit]
Description=Told of the outputs of instance ${order.instance}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sleep 1
`
  return [
    { path: `${PLACES.units}/${name}.path`, content: path + mark, mode: 0o644 },
    { path: `${PLACES.units}/${name}.service`, content: service + mark, mode: 0o644 },
  ]
}

function outputsOf(order: Order): string {
  return `orc-${order.instance}-outputs`
}
function policyPath(order: Order): string {
  return `${PLACES.kept}/${order.instance}/policy.json`
}

/** What a service has beside its unit. */
function belongings(order: Order, service: ServiceSpec): MachineFile[] {
  const kept = `${PLACES.kept}/${order.instance}/${service.name}`
  const hosts = hostsFile(order, service)
  return [
    { path: `${kept}.env`, content: environmentFile(service), mode: 0o600 },
    ...(hosts === null ? [] : [{ path: `${kept}.hosts`, content: hosts, mode: 0o644 }]),
    ...service.files.map(({ content, mode }, index) => ({
      path: filePath(order.instance, service.name, index),
      content: Buffer.from(content, 'base64'),
      mode,
    })),
  ]
}
