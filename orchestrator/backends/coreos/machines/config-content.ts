import { InvalidInput } from '../../../../common/errors.ts'
import type { MachineConfig } from './config.ts'
import { ETCD_UNIT, ETCDCTL_ENVIRONMENT } from './etcd.ts'
import { SECRETS_DIRECTORY, SECRETS_TARGET } from './secret-places.ts'

/** What a machine gets, before it is written as Ignition or as cloud-config. */
export interface MachineContent {
  readonly hostname: string
  readonly users: readonly ContentUser[]
  readonly disks: MachineConfig['disks']
  readonly files: readonly ContentFile[]
  readonly units: readonly ContentUnit[]
  /** The pair that its sshd shows; null: it makes its own. */
  readonly hostKey: { readonly secret: string; readonly open: string } | null
}

export interface ContentUser {
  readonly name: string
  readonly groups: readonly string[]
  readonly keys: readonly string[]
  readonly passwordHash: string | null
}

export interface ContentFile {
  readonly path: string
  /** Octal. */
  readonly mode: number
  readonly owner: string
  readonly bytes: Buffer
}

export interface ContentUnit {
  readonly name: string
  readonly enabled: boolean
  /** null: the system brings it. */
  readonly text: string | null
  readonly dropIns: Readonly<Record<string, string>>
}

/**
 * Works out all that a machine gets. @param read the bytes of a file that the configuration names, beside it
 * @throws InvalidInput naming a file or unit that would be written twice
 */
export function contentOf(config: MachineConfig, read: (path: string) => Buffer): MachineContent {
  const key = config['host-key']
  const files = ownFiles(config)
  const units = ownUnits(config)
  for (const [index, { path }] of config.files.entries()) {
    if (!files.some((own) => own.path === path)) continue
    throw new InvalidInput(`files[${index}].path`, `${path} is written already, from the other keys; take it away`)
  }
  for (const [index, { name }] of config.units.entries()) {
    if (!units.some((own) => own.name === name)) continue
    throw new InvalidInput(`units[${index}].name`, `${name} is there already, from the other keys; take it away`)
  }
  return {
    hostname: config.hostname,
    users: [
      { name: config.user, groups: [], keys: config['ssh-keys'], passwordHash: null },
      ...config.users.map((user) => ({
        name: user.name,
        groups: user.groups,
        keys: user['ssh-keys'],
        passwordHash: user['password-hash'] ?? null,
      })),
    ],
    disks: config.disks,
    files: [...files, ...config.files.map((file) => givenFile(file, read))],
    units: [...units, ...config.units.map(givenUnit)],
    hostKey: key === undefined ? null : { secret: read(key).toString(), open: read(`${key}.pub`).toString() },
  }
}

function givenFile({ path, mode, owner, text, local }: MachineConfig['files'][number], read: (path: string) => Buffer) {
  return {
    path,
    mode: Number.parseInt(mode, 8),
    owner,
    bytes: local === undefined ? Buffer.from(text ?? '') : read(local),
  }
}

function givenUnit(unit: MachineConfig['units'][number]): ContentUnit {
  const { name, enabled, text = null } = unit
  const secrets = unit['needs-secrets']
  const waits = secrets.length === 0 ? {} : { '10-orchestrator-secrets.conf': waitingFor(secrets) }
  return { name, enabled, text, dropIns: { ...unit['drop-ins'], ...waits } }
}

/**
 * A service that is skipped, without failing, while a secret is missing; each `orctl machine secrets push` starts the target
 * that wants it. Both are needed: systemd evaluates conditions only when a start is asked for (systemd.unit(5)).
 */
function waitingFor(secrets: readonly string[]): string {
  const conditions = secrets.map((name) => `ConditionPathExists=${SECRETS_DIRECTORY}/${name}`)
  return `[Unit]\n${conditions.join('\n')}\n\n[Install]\nWantedBy=${SECRETS_TARGET}\n`
}

function textFile(path: string, text: string, mode = 0o644): ContentFile {
  return { path, mode, owner: 'root', bytes: Buffer.from(text) }
}

function ownFiles(config: MachineConfig): ContentFile[] {
  const { hostname, network, profile, join } = config
  const files = [textFile('/etc/hostname', `${hostname}\n`)]
  if (network !== undefined) files.push(textFile('/etc/systemd/network/10-orchestrator.network', networkText(network)))
  const sudoers = [
    ...(config.user === 'root' ? [] : [config.user]),
    ...config.users.filter(({ sudo, name }) => sudo && name !== 'root').map(({ name }) => name),
  ]
  for (const name of sudoers) {
    files.push(textFile(`/etc/sudoers.d/90-orchestrator-${name}`, `${name} ALL=(ALL:ALL) NOPASSWD: ALL\n`, 0o440))
  }
  if (profile.etcd !== undefined) {
    files.push(textFile('/etc/orchestrator/etcd.env', etcdEnvironment(config, profile.etcd)))
    files.push(textFile(ETCDCTL_ENVIRONMENT, etcdctlEnvironment(profile.etcd)))
  }
  if (join !== undefined) {
    files.push(textFile('/etc/orchestrator/join.env', `UNIONIZE_JOIN_TOKEN=${join.token}\n`, 0o600))
  }
  return files
}

function ownUnits(config: MachineConfig): ContentUnit[] {
  const { profile, join, network } = config
  const plain = { enabled: true, text: null, dropIns: {} }
  const target = '[Unit]\nDescription=Services that wait for secrets\n'
  const units: ContentUnit[] = [{ name: SECRETS_TARGET, enabled: false, text: target, dropIns: {} }]
  if (network !== undefined) units.push({ ...plain, name: 'systemd-networkd.service' })
  units.push({ ...plain, name: profile.runtime === 'docker' ? 'docker.service' : 'podman.socket' })
  for (const disk of config.disks) units.push({ ...plain, name: mountUnit(disk.mount), text: mountText(disk) })
  if (profile.etcd !== undefined) units.push({ ...plain, name: ETCD_UNIT, text: etcdText(profile.etcd) })
  if (join !== undefined) {
    units.push({ ...plain, name: 'orchestrator-join.service', text: joinText(join.server) })
    units.push({ ...plain, name: 'unionize.service' }, { ...plain, name: 'unionize-wiring.service' })
  }
  return units
}

/** See systemd.network(5). */
function networkText({ interface: name, addresses, gateway, dns }: NonNullable<MachineConfig['network']>): string {
  const lines = [
    ...addresses.map((address) => `Address=${address}`),
    ...(gateway === undefined ? [] : [`Gateway=${gateway}`]),
    ...dns.map((server) => `DNS=${server}`),
  ]
  return `[Match]\nName=${name}\n\n[Network]\n${lines.join('\n')}\n`
}

/** The name of a mount's unit: systemd.unit(5), "String escaping for inclusion in unit names". */
export function mountUnit(path: string): string {
  const inner = path.replace(/^\/+|\/+$/g, '')
  const escaped = [...Buffer.from(inner)].map((byte, index) => {
    const character = String.fromCharCode(byte)
    if (character === '/') return '-'
    if (/[A-Za-z0-9:_]/.test(character) || (character === '.' && index > 0)) return character
    return `\\x${byte.toString(16).padStart(2, '0')}`
  })
  return `${escaped.join('')}.mount`
}

function mountText({ label, mount, filesystem }: MachineConfig['disks'][number]): string {
  return `[Unit]\nDescription=Disk ${label}\n\n[Mount]\nWhat=/dev/disk/by-label/${label}\nWhere=${mount}\nType=${filesystem}\n\n[Install]\nWantedBy=local-fs.target\n`
}

/** Without TLS etcd listens here too, where etcdctl asks unless told otherwise. */
const ETCD_HERE = 'http://127.0.0.1:2379'

type Etcd = NonNullable<MachineConfig['profile']['etcd']>

/** See "Configuration flags" of etcd 3.4: each has a variable. */
function etcdEnvironment({ hostname }: MachineConfig, etcd: Etcd): string {
  const { peer, client, cluster, state, token, tls } = etcd
  const values: Record<string, string> = {
    NAME: etcd.name ?? hostname,
    DATA_DIR: '/var/lib/orchestrator-etcd',
    LISTEN_PEER_URLS: listening(peer),
    INITIAL_ADVERTISE_PEER_URLS: peer,
    LISTEN_CLIENT_URLS: tls === undefined ? `${listening(client)},${ETCD_HERE}` : listening(client),
    ADVERTISE_CLIENT_URLS: client,
    INITIAL_CLUSTER: Object.entries(cluster)
      .map(([name, url]) => `${name}=${url}`)
      .join(','),
    INITIAL_CLUSTER_STATE: state,
    INITIAL_CLUSTER_TOKEN: token,
    STRICT_RECONFIG_CHECK: 'true',
  }
  if (tls !== undefined) {
    for (const side of ['', 'PEER_']) {
      Object.assign(values, {
        [`${side}TRUSTED_CA_FILE`]: tls.ca,
        [`${side}CERT_FILE`]: tls.certificate,
        [`${side}KEY_FILE`]: tls.key,
        [`${side}CLIENT_CERT_AUTH`]: 'true',
      })
    }
  }
  return variables('ETCD_', values)
}

/** See etcdctl(1): each flag has a variable. */
function etcdctlEnvironment({ client, tls }: Etcd): string {
  if (tls === undefined) return variables('ETCDCTL_', { ENDPOINTS: ETCD_HERE })
  return variables('ETCDCTL_', { ENDPOINTS: client, CACERT: tls.ca, CERT: tls.certificate, KEY: tls.key })
}

/** For systemd's EnvironmentFile=, for a shell, and without quotes for podman, which would keep them. */
function variables(prefix: string, values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${prefix}${name}=${value}\n`)
    .join('')
}

/** etcd listens on addresses alone: a name in a URL stands for all of them. */
function listening(text: string): string {
  const { protocol, hostname, port } = new URL(text)
  const host = /^\[|^[\d.]+$/.test(hostname) ? hostname : '[::]'
  return `${protocol}//${host}:${port || (protocol === 'https:' ? '443' : '80')}`
}

function etcdText({ image, tls }: Etcd): string {
  const secrets = Object.values(tls ?? {}).filter((path) => path.startsWith(`${SECRETS_DIRECTORY}/`))
  const conditions = secrets.map((path) => `ConditionPathExists=${path}\n`).join('')
  const wanted = secrets.length === 0 ? '' : ` ${SECRETS_TARGET}`
  const container = `/usr/bin/podman run --rm --replace --name orchestrator-etcd --network host --env-file /etc/orchestrator/etcd.env -v /var/lib/orchestrator-etcd:/var/lib/orchestrator-etcd -v ${SECRETS_DIRECTORY}:${SECRETS_DIRECTORY}:ro ${image} /usr/local/bin/etcd`
  const start = image === undefined ? '/usr/bin/etcd' : container
  return `[Unit]
Description=etcd member of this machine
Wants=network-online.target
After=network-online.target
${conditions}
[Service]
EnvironmentFile=/etc/orchestrator/etcd.env
StateDirectory=orchestrator-etcd
StateDirectoryMode=0700
ExecStartPre=/usr/bin/mkdir -p -m 0700 ${SECRETS_DIRECTORY}
ExecStart=${start}
Restart=always
RestartSec=2
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target${wanted}
`
}

function joinText(server: string): string {
  return `[Unit]
Description=Joins the orchestrator, once
Wants=network-online.target
After=network-online.target
Before=unionize.service
ConditionPathExists=!/var/lib/unionize/host.crt

[Service]
Type=oneshot
EnvironmentFile=/etc/orchestrator/join.env
ExecStart=/usr/bin/unionize join --server ${server}
ExecStartPost=/usr/bin/rm -f /etc/orchestrator/join.env
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
`
}
