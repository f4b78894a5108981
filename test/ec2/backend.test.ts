import { after } from 'node:test'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendContract } from '../contract/backend.ts'
import { cloudContext, cloudOrder } from '../support/cloud-backend.ts'
import { createFaults } from '../support/faults.ts'
import { startMoto, wrongPage } from '../support/moto.ts'
import { targetProxy } from '../support/target-proxy.ts'

const moto = await startMoto()
const faults = createFaults({ wrongPage, streams: () => false })
const proxy = await targetProxy({ faults, target: { host: '127.0.0.1', port: Number(new URL(moto.url).port) } })
after(async () => {
  await proxy[Symbol.asyncDispose]()
  await moto.close()
})

backendContract('cloud, EC2 (moto)', async () => {
  await moto.reset()
  const settings = {
    provider: { kind: 'ec2', region: 'eu-central-1' },
    regions: { frankfurt: { endpoint: `http://127.0.0.1:${proxy.port}` }, away: { endpoint: 'http://127.0.0.1:9' } },
    ...{
      credential: 'aws',
      size: 't3.micro',
      image: 'ami-12c6146b',
      boot: 'cloud-init',
      machines: 20,
      callsPerSecond: 1000,
    },
  }
  const keys = () => ({ accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' })
  const context = cloudContext(keys)
  const open = () => kind.create(settings, context)
  return {
    backend: await open(),
    host: { name: 'frankfurt' as HostName },
    absent: { name: 'away' as HostName },
    order: cloudOrder,
    reopen: open,
    another: () => kind.create(settings, cloudContext(keys, { installation: 'fedcba9876543210' })),
    startsWithinMs: 60_000,
    things: moto.things,
    faults,
    faultsMs: 300_000,
  }
})
