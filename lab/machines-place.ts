import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LabMachine } from './machine.ts'
import { LabMachines, MACHINES_NETWORK, machinesLeft } from './machines.ts'
import type { OpenPlace } from './place.ts'
import { runDirectory } from './places.ts'

const MACHINES = 2
/** Name of the backend, and of the stored key that it logs in with. */
const BACKEND = 'coreos'
const CREDENTIAL = 'machines'

/** Two machines with systemd, sshd and Podman, which the orchestrator reaches over SSH alone. */
export const openMachinesPlace: OpenPlace = async ({ prefix, namespace, engine, images, say, signal }) => {
  const own = `${prefix}m`
  say(`starting ${MACHINES} machines with systemd`)
  const lab = await LabMachines.open(own, MACHINES, { lan: namespace, say, ...(signal && { signal }) })
  try {
    say("copying the templates' images to each machine")
    for (const image of images) {
      const chunks: Buffer[] = []
      for await (const chunk of await engine.docker.getImage(image).get()) chunks.push(chunk as Buffer)
      const input = Buffer.concat(chunks)
      for (const machine of lab.machines) await load(machine, input)
    }
  } catch (error) {
    await lab.close()
    throw error
  }
  return {
    backend: BACKEND,
    settings: {
      orchestrator: { backends: { [BACKEND]: { kind: 'coreos', settings: { credential: CREDENTIAL } } } },
      unionize: { 'network.address': MACHINES_NETWORK.gateway },
    },
    async join(_token, orctl) {
      const fields = join(runDirectory(own, 'machines'), 'credential.json')
      writeFileSync(fields, JSON.stringify({ key: readFileSync(lab.key, 'utf8') }), { mode: 0o600 })
      await orctl('credential', 'set', CREDENTIAL, '--from-file', fields)
      rmSync(fields)
      for (const { name, address, ...machine } of lab.machines.map(described)) {
        say(`the orchestrator is told of ${name}`)
        const known = ['--address', address, '--user', 'root', '--host-key', machine.hostKey]
        await orctl('machine', 'add', name, ...known)
      }
    },
    async close() {
      await lab.close()
      return machinesLeft(own)
    },
  }
}

function described(machine: LabMachine) {
  return { name: machine.name, address: machine.address, hostKey: machine.hostPublicKey() }
}

async function load(machine: LabMachine, input: Buffer): Promise<void> {
  await machine.run(['podman', 'load', '-q'], { input, timeoutMs: 180_000 })
}
