import { after } from 'node:test'
import { backendKills, type KillSubject } from '../support/backend-kills.ts'
import { createFaults } from '../support/faults.ts'
import { startMoto } from '../support/moto.ts'
import { targetProxy } from '../support/target-proxy.ts'

const moto = await startMoto()
const faults = createFaults({ streams: () => false })
const proxy = await targetProxy({ faults, target: { host: '127.0.0.1', port: Number(new URL(moto.url).port) } })
after(async () => {
  await proxy[Symbol.asyncDispose]()
  await moto.close()
})

backendKills('EC2 (moto)', async (): Promise<KillSubject> => {
  await moto.reset()
  const settings = {
    provider: { kind: 'ec2', region: 'eu-central-1' },
    regions: { frankfurt: { endpoint: `http://127.0.0.1:${proxy.port}` } },
    ...{ credential: 'aws', size: 't3.micro', image: 'ami-12c6146b', boot: 'cloud-init' },
    ...{ machines: 20, callsPerSecond: 1000 },
  }
  return {
    backend: { kind: 'cloud', settings },
    credentials: { aws: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret-key-of-nobody' } },
    faults,
    instances: moto.instances,
    things: moto.things,
    mostMs: 900_000,
  }
})
