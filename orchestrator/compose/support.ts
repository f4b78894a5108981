import type { Json } from '../domain/template.ts'
import type { Path } from './document.ts'

/**
 * Which keys of a Compose file are understood here, and why the others are not: one table, from which the refusals, the
 * table in docs/templates.md and the tests come. It has every key of the Compose Specification's schema; what stands below
 * a refused key is refused with it.
 */
export interface Support {
  /** Names between dots; `*` is any name, or any element of a list. */
  readonly key: string
  readonly supported: boolean
  /** What it means here, or why it is refused and what to do instead. '' means: as in Compose. */
  readonly note: string
  /** The values that it may have; absent: those that Compose allows, unless the note says less. */
  readonly only?: readonly Json[]
}

const yes = (key: string, note = '', only?: readonly Json[]): Support =>
  only ? { key, supported: true, note, only } : { key, supported: true, note }
const no = (key: string, note: string): Support => ({ key, supported: false, note })
/** Several keys of one mapping that have nothing to explain. */
const all = (prefix: string, keys: string): readonly Support[] => keys.split(' ').map((key) => yes(`${prefix}.${key}`))
/** Several keys of one mapping that are refused for the same reason. */
const none = (prefix: string, keys: string, note: string): readonly Support[] =>
  keys.split(' ').map((key) => no(`${prefix}.${key}`, note))

const WINDOWS = 'it concerns Windows containers: take it away'
const LABELS = 'only containers have labels here: take it away'
const SWARM = 'it concerns Docker Swarm alone: say it under `x-orchestrator.options` of that backend, or take it away'
const NAMED = 'names are private to each instance: take it away'
const OUTSIDE = 'an instance has nothing in common with what was made elsewhere: take it away'
const NOTHING_OUTSIDE = 'an instance has nothing in common with what was made elsewhere'
const NAMESPACES = 'namespaces are never shared with the host or between services: take it away'
const TRUSTED = 'only in templates that the setting `templates.trusted` names'

const TOP: readonly Support[] = [
  yes('version', 'accepted and without effect, as in Compose'),
  yes('name', "the template's name; without it, that of the file or its folder"),
  no('include', 'one file is one template: copy what you need, or derive a template by `x-orchestrator.base`'),
  no('models', 'there is no runner for models here: take it away'),
  yes('services', 'at most 32; names of a-z, 0-9, - and _, at most 31 characters'),
  yes('services.*'),
]

const SERVICE: readonly Support[] = [
  yes('services.*.image', 'needed'),
  yes('services.*.pull_policy', '`always`, `missing` (also as `if_not_present`), `never`; others are refused'),
  ...all('services.*', 'platform command entrypoint working_dir'),
  yes('services.*.environment', 'a name without a value takes that of the parameter or variable of that name'),
  yes('services.*.environment.*'),
  yes('services.*.env_file', 'files beside the Compose file; they become part of the template'),
  yes('services.*.env_file.*'),
  ...all('services.*.env_file.*', 'path required'),
  yes('services.*.env_file.*.format', '`raw`, or left out'),
  yes('services.*.label_file', 'files beside the Compose file; they become part of the template'),
  yes('services.*.label_file.*'),
  yes('services.*.labels', 'beside those of the orchestrator, whose names begin with `org.orchestrator`'),
  yes('services.*.labels.*'),
  ...all('services.*', 'user group_add group_add.* init tty stdin_open'),
  yes('services.*.stop_signal', 'with `stop_grace_period`: without it, a container is killed at once'),
  yes('services.*.stop_grace_period', 'without it, a container is killed at once; at most 10m'),
  yes('services.*.restart', 'without it `always`: an instance lives as long as its lease'),
  yes(
    'services.*.container_name',
    'a further name of the service on its networks; the container is named by the orchestrator',
  ),
  yes('services.*.depends_on', 'also in the short form'),
  yes('services.*.depends_on.*'),
  ...all('services.*.depends_on.*', 'condition restart'),
  yes('services.*.depends_on.*.required', 'with `false`, a service that the file lacks is no fault'),
  ...all('services.*', 'healthcheck healthcheck.test healthcheck.test.*'),
  yes('services.*.healthcheck.interval', 'at least 1s'),
  yes('services.*.healthcheck.timeout'),
  ...all('services.*', 'healthcheck.retries healthcheck.start_period healthcheck.disable'),
  no('services.*.healthcheck.start_interval', 'not every engine knows it: say `interval`'),
  yes('services.*.command.*'),
  yes('services.*.entrypoint.*'),
  yes('services.*.expose', 'of the entry, the first is its port when it has no `ports`'),
  yes('services.*.expose.*'),
  yes('services.*.logging', ''),
  yes('services.*.logging.driver', "both mean the log of the host's engine", ['json-file', 'local']),
  yes('services.*.logging.options', '`max-size` and `max-file`; others are refused'),
  yes('services.*.logging.options.*'),
  yes('services.*.extra_hosts', 'addresses only; `host-gateway` is refused: the host is out of reach'),
  yes('services.*.extra_hosts.*'),
  yes('services.*.extra_hosts.*.*'),
  no('services.*.build', 'hosts do not build: make the image by `orctl template build` and name it in `image`'),
  no(
    'services.*.extends',
    'say it by a YAML anchor and a merge key (`<<: *base`), or derive a template by `x-orchestrator.base`',
  ),
  no('services.*.profiles', 'every service of a template runs: take it away, or make two templates'),
  no('services.*.provider', 'nothing but containers is started: take it away'),
  no('services.*.develop', 'it concerns `docker compose watch`: take it away'),
  no('services.*.attach', 'it concerns the terminal of `docker compose up`: take it away'),
  no('services.*.annotations', 'they are not passed on: say `labels`'),
  no('services.*.models', 'there is no runner for models here: take it away'),
  ...none(
    'services.*',
    'post_start pre_stop',
    'not supported yet: put it into the command, or into a service that others depend on',
  ),
  no('services.*.pull_refresh_after', 'images are not fetched by time: say `pull_policy: always`'),
  ...none('services.*', 'credential_spec isolation', WINDOWS),
  yes('services.*.scale', 'a service is one container', [1, '1']),
]

const RESOURCES: readonly Support[] = [
  yes('services.*.mem_limit', '256 MiB without it'),
  yes('services.*.pids_limit', '256 without it; no limit (-1) is refused'),
  ...all('services.*', 'mem_reservation memswap_limit cpus cpu_shares cpuset shm_size oom_score_adj'),
  ...none('services.*', 'cpu_quota cpu_period', 'say `cpus`, which means the same'),
  ...none('services.*', 'cpu_rt_period cpu_rt_runtime', 'real-time shares are not given: say `cpus`'),
  ...none('services.*', 'cpu_count cpu_percent', WINDOWS),
  no('services.*.mem_swappiness', 'not every engine knows it: say `memswap_limit`'),
  no('services.*.oom_kill_disable', 'a host must be able to end what exceeds its memory: take it away'),
  no('services.*.blkio_config', 'devices of hosts differ: take it away'),
  no('services.*.storage_opt', 'not every engine knows it: take it away'),
  ...all('services.*', 'ulimits ulimits.* ulimits.*.soft ulimits.*.hard'),
  ...all('services.*', 'deploy deploy.resources deploy.resources.limits deploy.resources.limits.cpus'),
  ...all('services.*.deploy.resources', 'limits.memory limits.pids reservations reservations.memory'),
  no(
    'services.*.deploy.resources.reservations.cpus',
    'no engine keeps processors free for one container: say `cpu_shares`',
  ),
  ...none('services.*.deploy.resources.reservations', 'generic_resources devices', 'not supported yet'),
  yes('services.*.deploy.mode', 'a service is one container', ['replicated']),
  yes('services.*.deploy.replicas', 'a service is one container', [1, '1']),
  yes('services.*.deploy.restart_policy', 'means the same as `restart`'),
  yes('services.*.deploy.restart_policy.condition', '`any`, `on-failure`, `none`'),
  ...none(
    'services.*.deploy.restart_policy',
    'delay max_attempts window',
    'hosts space restarts by themselves: take it away',
  ),
  ...none('services.*.deploy', 'endpoint_mode rollback_config update_config placement', SWARM),
  no('services.*.deploy.labels', 'there is no service beside its container: say `labels`'),
  no('services.*.gpus', 'not supported yet'),
]

const ISOLATION: readonly Support[] = [
  yes('services.*.cap_add', `without CAP_, or with it; what reaches the host: ${TRUSTED}`),
  yes('services.*.cap_add.*'),
  yes('services.*.cap_drop', 'also of the short list that is there without it; `ALL` takes away all of them'),
  yes('services.*.cap_drop.*'),
  yes('services.*.privileged', `with \`true\`: ${TRUSTED}`),
  yes('services.*.security_opt', `\`no-new-privileges\` holds anyway; what weakens: ${TRUSTED}`),
  yes('services.*.security_opt.*'),
  yes('services.*.read_only'),
  yes('services.*.sysctls', "of the container's own namespaces"),
  yes('services.*.sysctls.*'),
  yes('services.*.devices', `\`/dev/net/tun\` and \`/dev/fuse\`; others: ${TRUSTED}`),
  yes('services.*.devices.*'),
  ...all('services.*.devices.*', 'source target permissions'),
  no('services.*.device_cgroup_rules', 'name each device in `devices`'),
  ...none('services.*', 'pid ipc uts userns_mode cgroup', NAMESPACES),
  no('services.*.cgroup_parent', 'limits are kept by the orchestrator: say `mem_limit`, `cpus`, `pids_limit`'),
  no('services.*.runtime', 'hosts choose their runtime: take it away'),
  no('services.*.use_api_socket', 'it would hand the engine of the host to the client: take it away'),
]

const NETWORK: readonly Support[] = [
  yes(
    'services.*.ports',
    "the entry's are open on the instance's own address: `8080:80` opens 80; other services' are open inside only",
  ),
  yes('services.*.ports.*'),
  yes('services.*.ports.*.target', ''),
  yes('services.*.ports.*.published', 'not opened: a port is reached by its own number'),
  yes('services.*.ports.*.protocol', '`tcp`, `udp`'),
  yes('services.*.ports.*.host_ip', 'without effect: an instance has an address of its own'),
  yes('services.*.ports.*.mode', 'without effect: both modes are the same here'),
  yes('services.*.ports.*.name', 'for people'),
  yes('services.*.ports.*.app_protocol', 'for people'),
  yes(
    'services.*.network_mode',
    '`service:ENTRY`: in the namespace of the entry; `none`; `host` and others are refused',
  ),
  yes('services.*.networks', 'without it: `default`'),
  yes('services.*.networks.*'),
  ...all('services.*.networks.*', 'aliases aliases.*'),
  yes('services.*.networks.*.ipv6_address', 'only in a network whose `subnet` is given'),
  no('services.*.networks.*.ipv4_address', 'networks are IPv6 here: say `ipv6_address`, or use the name'),
  ...none(
    'services.*.networks.*',
    'interface_name link_local_ips mac_address driver_opts priority gw_priority',
    'interfaces are named and addressed by the orchestrator: take it away',
  ),
  no(
    'services.*.hostname',
    "the backend gives it (docker: `instance`; elsewhere the instance's name): take it away; others find the service by its own name",
  ),
  no('services.*.domainname', 'inside, names end in `.internal`: take it away'),
  no('services.*.mac_address', 'it follows from the instance, so that it stays the same: take it away'),
  ...none(
    'services.*',
    'dns dns_opt dns_search',
    'names are resolved by the orchestrator: take it away; `extra_hosts` adds names',
  ),
  ...none(
    'services.*',
    'links external_links',
    'services find each other by name on a common network: take it away; `networks.*.aliases` adds names',
  ),
  yes('networks', 'private to the instance: nothing else is on them; at most 16'),
  yes('networks.*'),
  yes('networks.*.driver', '', ['bridge']),
  yes('networks.*.internal', 'all of them are, also with `false`'),
  yes('networks.*.enable_ipv6', 'all of them have it', [true, 'true']),
  no('networks.*.enable_ipv4', 'networks are IPv6 here: take it away'),
  ...all('networks.*', 'ipam ipam.config ipam.config.*'),
  yes('networks.*.ipam.config.*.subnet', 'one, of unique local IPv6 addresses (fc00::/7); an IPv4 one is not given'),
  ...none(
    'networks.*.ipam.config.*',
    'ip_range gateway aux_addresses',
    'addresses are given by the orchestrator: take it away',
  ),
  ...none('networks.*.ipam', 'driver options', 'addresses are given by the orchestrator: take it away'),
  no('networks.*.driver_opts', 'the bridge is made by the orchestrator: take it away'),
  no('networks.*.name', NAMED),
  yes('networks.*.external', NOTHING_OUTSIDE, [false, 'false']),
  no('networks.*.external.name', OUTSIDE),
  no('networks.*.attachable', OUTSIDE),
  no('networks.*.labels', LABELS),
]

const STORAGE: readonly Support[] = [
  yes('services.*.tmpfs'),
  yes('services.*.tmpfs.*'),
  yes(
    'services.*.volumes',
    `named volumes live as long as the instance; a path of the host: ${TRUSTED}; a file beside the Compose file: say \`configs\``,
  ),
  yes('services.*.volumes.*'),
  yes('services.*.volumes.*.type', '`volume`, `tmpfs`, `bind`; others are refused'),
  ...all('services.*.volumes.*', 'source target read_only tmpfs tmpfs.size tmpfs.mode'),
  no('services.*.volumes.*.bind', 'paths of the host are bound privately: take it away'),
  no('services.*.volumes.*.volume', 'a volume begins with what the image has there: take it away'),
  no('services.*.volumes.*.image', 'not supported yet'),
  no('services.*.volumes.*.consistency', 'it concerns Docker Desktop: take it away'),
  no('services.*.volumes_from', 'name the volume in both services'),
  yes('volumes', 'gone with the instance'),
  yes('volumes.*'),
  yes('volumes.*.driver', '', ['local']),
  no('volumes.*.driver_opts', 'a volume is a folder of the host that the orchestrator makes: take it away'),
  no('volumes.*.name', NAMED),
  yes('volumes.*.external', NOTHING_OUTSIDE, [false, 'false']),
  no('volumes.*.external.name', OUTSIDE),
  no('volumes.*.labels', LABELS),
  ...['configs', 'secrets'].flatMap((section) => [
    yes(`services.*.${section}`, 'files in memory, read-only, gone with the instance'),
    yes(`services.*.${section}.*`),
    ...all(`services.*.${section}.*`, 'source target'),
    yes(`services.*.${section}.*.mode`, '0444 or 0555; 0400 and 0440 mean 0444, as the service alone sees the file'),
    ...none(`services.*.${section}.*`, 'uid gid', 'everybody in the container may read the file: take it away'),
    yes(section),
    yes(`${section}.*`),
    yes(`${section}.*.file`, 'a file beside the Compose file; it becomes part of the template'),
    yes(`${section}.*.environment`, 'the value of a parameter, also of a secret or a file, or of a lease variable'),
    no(`${section}.*.name`, NAMED),
    yes(`${section}.*.external`, NOTHING_OUTSIDE, [false, 'false']),
    no(`${section}.*.external.name`, OUTSIDE),
    no(`${section}.*.labels`, LABELS),
    no(`${section}.*.template_driver`, SWARM),
  ]),
  yes('configs.*.content', 'with variables, also of secrets'),
  ...none('secrets.*', 'driver driver_opts', SWARM),
]

export const SUPPORT: readonly Support[] = [...TOP, ...SERVICE, ...RESOURCES, ...ISOLATION, ...NETWORK, ...STORAGE]

const BY_KEY: ReadonlyMap<string, Support> = new Map(SUPPORT.map((entry) => [entry.key, entry]))

/**
 * The part of a file that is supported and says something: without the author's own `x-` keys, and those of a single value.
 * @param refused told of each key that is valid for Compose and not supported here
 */
export function supportedPart(
  tree: { readonly [key: string]: Json },
  refused: (path: Path, message: string) => void,
): { readonly [key: string]: Json } {
  const visit = (value: Json, path: Path, key: string): Json | undefined => {
    const entry = key === '' ? yes('') : (BY_KEY.get(key) ?? no(key, 'take it away'))
    if (!entry.supported) {
      refused(path, `is not supported: ${entry.note}`)
      return undefined
    }
    if (entry.only) {
      if (!entry.only.includes(value)) {
        const expected = [...new Set(entry.only.map(String))].join(' or ')
        refused(path, `is not supported: expected ${expected}${entry.note === '' ? '' : `: ${entry.note}`}`)
      }
      // What has one value that is supported says nothing.
      return undefined
    }
    if (value === null || typeof value !== 'object') return value
    if (Array.isArray(value)) return value.map((item: Json, index) => visit(item, [...path, index], `${key}.*`) ?? null)
    const members = Object.entries(value).flatMap(([name, member]) => {
      // Where names are free, a name that begins with x- is one of them.
      if (name.startsWith('x-') && !BY_KEY.has(`${key}.*`)) return []
      const below = key === '' ? name : `${key}.${name}`
      const kept = visit(member, [...path, name], key === '' || BY_KEY.has(below) ? below : `${key}.*`)
      return kept === undefined ? [] : [[name, kept] as const]
    })
    return Object.fromEntries(members)
  }
  return (visit(tree, [], '') ?? {}) as { readonly [key: string]: Json }
}
