import { after } from 'node:test'
import { backend as kind } from '../../orchestrator/backends/cloud/cloud.ts'
import type { HostName } from '../../orchestrator/domain/host.ts'
import { backendContract } from '../contract/backend.ts'
import { cloudContext, cloudOrder } from '../support/cloud-backend.ts'
import { createFaults, type PassingCall } from '../support/faults.ts'
import { startMoto } from '../support/moto.ts'
import { targetProxy } from '../support/target-proxy.ts'

/** A list as it was earlier, or without anything in it; null: it is no list. */
function wrongPage({ body }: PassingCall, text: string, earlier: string | undefined): string | null {
  if (!/Action=Describe/.test(body)) return null
  const empty = text.replace(/<(\w+Set)>.*<\/\1>/s, '<$1/>')
  if (empty === text) return null
  return earlier !== undefined && earlier !== text ? earlier : empty
}

const moto = await startMoto()
const faults = createFaults({ wrongPage, streams: () => false })
const proxy = await targetProxy({ faults, target: { host: '127.0.0.1', port: Number(new URL(moto.url).port) } })
after(async () => {
  await proxy[Symbol.asyncDispose]()
  await moto.close()
})

/** Asks moto itself for machines, groups and networks that carry our tag. */
async function things(): Promise<readonly string[]> {
  const found = await Promise.all(
    ['DescribeInstances', 'DescribeSecurityGroups', 'DescribeSubnets', 'DescribeInternetGateways', 'DescribeVpcs'].map(
      async (Action) => {
        const answer = await fetch(moto.url, {
          method: 'POST',
          headers: {
            authorization:
              'AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0',
          },
          body: new URLSearchParams({
            Action,
            Version: '2016-11-15',
            'Filter.1.Name': 'tag-key',
            'Filter.1.Value.1': 'orchestrator-installation',
          }),
        })
        const text = await answer.text()
        const machines = [...text.matchAll(/<instanceId>([^<]+)<.*?<instanceState>.*?<name>([^<]+)</gs)]
        const others = [...text.matchAll(/<(?:groupName|subnetId|internetGatewayId|vpcId)>([^<]+)</g)]
        if (Action !== 'DescribeInstances') return others.map(([, id]) => `${Action} ${id}`)
        return machines.filter(([, , state]) => state !== 'terminated').map(([, id, state]) => `${id} ${state}`)
      },
    ),
  )
  return found.flat()
}

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
    things,
    faults,
    faultsMs: 60_000,
  }
})
