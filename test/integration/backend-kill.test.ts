import { after } from 'node:test'
import { backendKills, type KillSubject } from '../support/backend-kills.ts'
import { installPackage } from '../support/backend-packages.ts'
import { createFaults } from '../support/faults.ts'
import { targetProxy } from '../support/target-proxy.ts'
import { startTargetServer } from '../support/target-server.ts'

const ends: (() => Promise<void>)[] = []
after(async () => {
  for (const end of ends.reverse()) await end()
})

backendKills('a target that speaks HTTP', async (): Promise<KillSubject> => {
  const installed = installPackage()
  ends.push(async () => installed[Symbol.dispose]())
  const target = await startTargetServer({ bootMs: 100 })
  ends.push(async () => await target[Symbol.asyncDispose]())
  const faults = createFaults()
  const proxy = await targetProxy({ faults, target: { host: '127.0.0.1', port: target.port } })
  ends.push(async () => await proxy[Symbol.asyncDispose]())
  return {
    backend: { package: installed.name, settings: { url: `http://127.0.0.1:${proxy.port}` } },
    settings: { packages: { directory: installed.directory } },
    faults,
    instances: async () => target.boxes(),
    things: async () => target.things(),
  }
})
