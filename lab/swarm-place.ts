import { chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { LabError, run } from './command.ts'
import { containerProcesses, type LabEngine } from './engine.ts'
import { LAB_NETWORK, listNamespaces } from './namespaces.ts'
import type { OpenPlace, PlaceHome } from './place.ts'
import { MEMORY_DIRECTORY, runDirectory } from './places.ts'
import { type LabProcess, launch } from './processes.ts'
import { daemonCommand, giveDirectory, nested, showProgram, stateDirectory, WIRING_CAPABILITIES } from './programs.ts'
import { FABRIC, LabSwarm, plug, type SwarmNode, swarmPrefix } from './swarm.ts'
import { swarmCertificates } from './swarm-tls.ts'
import { idsOf } from './users.ts'

/** Number of the lab's host on the fabric of the swarm. */
const HOME = 50
const HOME_ADDRESS = `${FABRIC.prefix6}${10 + HOME}`
/** TCP port of the orchestrator, and of the managers' engines. */
const PORT = 8998
const ENGINE_PORT = 2376
const MANAGERS = 3

/** A swarm of three managers, each with unionize, asked over TLS. */
export const openSwarmPlace: OpenPlace = async (home) => {
  const { prefix, namespace, engine, say, signal } = home
  const folder = runDirectory(prefix, 'etc', 'swarm')
  const addresses = Array.from({ length: MANAGERS }, (_, at) => `${FABRIC.prefix6}${11 + at}`)
  await swarmCertificates(folder, addresses)
  const tls = { ca: join(folder, 'ca.pem'), cert: join(folder, 'client.pem'), key: join(folder, 'client-key.pem') }
  const { uid, gid } = idsOf('orchestrator')
  chownSync(tls.key, uid, gid)
  say(`starting a swarm of ${MANAGERS} managers`)
  const swarm = await LabSwarm.open({
    ...{ prefix: swarmPrefix(prefix), managers: MANAGERS, workers: 0, say, ...(signal && { signal }) },
    arguments: ({ address }) => ['--no-new-privileges', ...listening(folder, address)],
  })
  const daemons: LabProcess[] = []
  try {
    await plug(swarm.fabric, namespace, HOME, signal)
    for (const node of swarm.nodes) await addBridge(node)
    say("copying the templates' images to each node")
    for (const node of swarm.nodes) await copyImages(home.images, engine, node.engine)
  } catch (error) {
    await swarm.close()
    throw error
  }
  return {
    backend: 'swarm',
    settings: {
      orchestrator: {
        'server.names': ['localhost', '::1', '127.0.0.1', HOME_ADDRESS],
        backends: {
          swarm: {
            kind: 'swarm',
            settings: {
              managers: addresses.map((address) => `tcp://[${address}]:${ENGINE_PORT}`),
              ...{ tls, nodesForbidNewPrivileges: true, pollSeconds: 0.5 },
            },
          },
        },
      },
      unionize: { 'network.address': HOME_ADDRESS },
    },
    async join(token) {
      say('unionize joins from every node')
      for (const node of swarm.nodes) daemons.push(...(await startUnionize(home, node, await token(node.name))))
    },
    async close() {
      // The wiring processes last: whoever ends may still need them.
      for (const daemon of daemons.toReversed()) await daemon.stop()
      await swarm.close()
      return swarm.nodes.flatMap(({ name }) => leftOf(`${swarmPrefix(prefix)}${name}`))
    },
  }
}

/** What is there of a node that is to be gone. */
function leftOf(node: string): string[] {
  const namespaces = listNamespaces(node).map((name) => `network namespace ${name}`)
  return [...namespaces, ...containerProcesses(node).map((pid) => `container process ${pid} of ${node}`)]
}

/** Arguments of an engine that managers are reached through. */
function listening(folder: string, address: string): string[] {
  const file = (name: string) => join(folder, name)
  return [
    ...['--host', `tcp://[${address}]:${ENGINE_PORT}`, '--tlsverify', '--tlscacert', file('ca.pem')],
    ...['--tlscert', file('server.pem'), '--tlskey', file('server-key.pem')],
  ]
}

/** Makes the bridge of instances on a node, as an operator does. */
async function addBridge({ namespace }: SwarmNode): Promise<void> {
  const { instancesBridge: bridge, instancesGateway: gateway } = LAB_NETWORK
  const lines = `link add ${bridge} type bridge mcast_snooping 0
link set ${bridge} up
address add ${gateway}/64 dev ${bridge} nodad
`
  await run('ip', ['-n', namespace, '-batch', '-'], { input: lines })
}

/** Gives an engine images that another one has, where it has not these very ones yet. */
async function copyImages(images: readonly string[], from: LabEngine, to: LabEngine): Promise<void> {
  const idIn = async ({ docker }: LabEngine, image: string) =>
    (await docker.listImages()).find(({ RepoTags }) => RepoTags?.includes(image))?.Id
  for (const image of images) {
    if ((await idIn(from, image)) === (await idIn(to, image))) continue
    const loading = await to.docker.loadImage(await from.docker.getImage(image).get())
    await new Promise((resolve, reject) => loading.once('end', resolve).once('error', reject).resume())
  }
}

/** @returns its processes, in the order in which they were started */
async function startUnionize(home: PlaceHome, node: SwarmNode, token: string): Promise<LabProcess[]> {
  const { prefix } = home
  const { name, namespace, engine } = node
  const state = stateDirectory(prefix, name)
  const journal = runDirectory(prefix, 'nodes', name)
  const files = join(MEMORY_DIRECTORY, prefix, `files-${name}`)
  const settings = {
    'host.name': name,
    'server.url': `https://[${HOME_ADDRESS}]:${PORT}`,
    'state.directory': state,
    'docker.socket': engine.socket,
    'wiring.socket': join(state, 'wiring.sock'),
    'wiring.directory': join(state, 'wiring'),
    'network.bridge': LAB_NETWORK.instancesBridge,
    'network.gateway': LAB_NETWORK.instancesGateway,
    'network.my-address': LAB_NETWORK.myAddress,
    'network.address': node.address,
    'leases.journal': join(journal, 'journal'),
    'leases.dnsmasq-config': null,
    'names.directory': join(state, 'names'),
    'files.directory': files,
    'pool.size': 0,
  }
  const config = join(runDirectory(prefix, 'etc'), `unionize-${name}.yaml`)
  writeFileSync(config, stringify(nested(settings)), { mode: 0o644 })
  for (const directory of [state, journal, files]) giveDirectory('unionize', directory)
  const common = { namespace, user: 'unionize', prepare: showProgram(prefix) }
  const join_ = ['join', '--server', settings['server.url'], '--host-name', name, '--state-directory', state]
  const joining = launch(prefix, {
    ...{ ...common, name: `unionize-join-${name}`, environment: { UNIONIZE_JOIN_TOKEN: token } },
    command: daemonCommand(prefix, 'unionize/main.js', ...join_),
  })
  const outcome = await joining.ended
  if (outcome !== 0)
    throw new LabError('join-failed', `unionize join on ${name} ended with ${outcome}: ${joining.log()}`)
  const wiring = launch(prefix, {
    ...{ ...common, name: `unionize-wiring-${name}`, capabilities: WIRING_CAPABILITIES },
    command: daemonCommand(prefix, 'unionize/main.js', 'wiring', '--config', config),
  })
  const unionize = launch(prefix, {
    ...{ ...common, name: `unionize-${name}`, capabilities: [] },
    command: daemonCommand(prefix, 'unionize/main.js', 'run', '--config', config),
  })
  await unionize.ready(() => /stock\.taken/.test(unionize.log(1_000_000)), 120_000)
  return [wiring, unionize]
}
