import {
  DescribeInstancesCommand,
  GetConsoleOutputCommand,
  type Instance,
  RunInstancesCommand,
  type RunInstancesRequest,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2'
import { everyPage } from '../../pages.ts'
import { type Client, idOf, nextOf, plain, specification, type Tags } from './client.ts'

/** A machine as EC2 tells of it, without what we never ask. */
export interface Ec2Machine {
  readonly id: string
  readonly tags: Tags
  /** `pending`, `running`, `shutting-down`, `terminated`, `stopping`, `stopped`. */
  readonly state: string
  /** Why it is in that state: `Server.InsufficientInstanceCapacity: …`; empty: no reason. */
  readonly reason: string
  readonly address: string | null
  /** Epoch ms. */
  readonly launchedAt: number
  readonly groups: readonly string[]
  readonly vpc: string | null
}

/** What a machine is made of; EC2's own names stand behind. */
export interface RunRequest {
  /** At most 64 ASCII characters: asked again with the same, EC2 tells of the same machine. */
  readonly token: string
  readonly image: string
  readonly size: string
  readonly subnet: string
  readonly groups: readonly string[]
  readonly bootData: string
  readonly tags: Tags
  readonly spot: boolean
  readonly instanceProfile: string | undefined
  readonly keyName: string | undefined
}

export type MachineCalls = ReturnType<typeof machineCalls>

export function machineCalls({ call, required, ask }: Client) {
  return {
    machines: (tags: Tags, signal: AbortSignal) =>
      everyPage('DescribeInstances', idOf, async (NextToken: string | undefined) => {
        const answer = await call(new DescribeInstancesCommand({ ...ask(tags), NextToken }), signal)
        return {
          items: (answer.Reservations ?? []).flatMap((r) => (r.Instances ?? []).flatMap(machine)),
          next: nextOf(answer),
        }
      }),

    async run(request: RunRequest, signal: AbortSignal): Promise<Ec2Machine> {
      const command = new RunInstancesCommand(runInstances(request))
      const answer = await call(command, signal, request)
      const made = (answer.Instances ?? []).flatMap(machine)[0]
      return required(made, 'RunInstances')
    },

    async terminate(id: string, signal: AbortSignal): Promise<void> {
      await call(new TerminateInstancesCommand({ InstanceIds: [id] }), signal)
    },

    /** The newest 64 KiB; null: there is none yet. */
    async console(id: string, signal: AbortSignal): Promise<string | null> {
      // Not `Latest`: only machines on Nitro can tell that, and the others refuse.
      const command = new GetConsoleOutputCommand({ InstanceId: id })
      const answer = await call(command, signal)
      return answer.Output === undefined || answer.Output === ''
        ? null
        : Buffer.from(answer.Output, 'base64').toString()
    },
  }
}

function runInstances(request: RunRequest): RunInstancesRequest {
  const profile = request.instanceProfile
  return {
    ClientToken: request.token,
    MinCount: 1,
    MaxCount: 1,
    ImageId: request.image,
    InstanceType: request.size as NonNullable<RunInstancesRequest['InstanceType']>,
    SubnetId: request.subnet,
    SecurityGroupIds: [...request.groups],
    Ipv6AddressCount: 1,
    UserData: Buffer.from(request.bootData).toString('base64'),
    // A machine that switches itself off is gone, not stopped and billed for its disk.
    InstanceInitiatedShutdownBehavior: 'terminate',
    // Its boot data hold secrets: containers of it read them only where they need the role that is told at the same place.
    MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: profile === undefined ? 1 : 2 },
    TagSpecifications: [specification('instance', request.tags), specification('volume', request.tags)],
    KeyName: request.keyName,
    ...(profile !== undefined && {
      IamInstanceProfile: profile.startsWith('arn:') ? { Arn: profile } : { Name: profile },
    }),
    ...(request.spot && {
      InstanceMarketOptions: {
        MarketType: 'spot',
        SpotOptions: { SpotInstanceType: 'one-time', InstanceInterruptionBehavior: 'terminate' },
      },
    }),
  }
}

function machine(instance: Instance): Ec2Machine[] {
  if (instance.InstanceId === undefined) return []
  const addresses = (instance.NetworkInterfaces ?? []).flatMap((card) => card.Ipv6Addresses ?? [])
  const { Code = '', Message = '' } = instance.StateReason ?? {}
  return [
    {
      id: instance.InstanceId,
      tags: plain(instance.Tags),
      state: instance.State?.Name ?? 'pending',
      reason: Message === '' || Message.startsWith(Code) ? Message || Code : `${Code}: ${Message}`,
      address: instance.Ipv6Address ?? addresses[0]?.Ipv6Address ?? null,
      launchedAt: instance.LaunchTime?.getTime() ?? 0,
      groups: (instance.SecurityGroups ?? []).flatMap(({ GroupId }) => (GroupId === undefined ? [] : [GroupId])),
      vpc: instance.VpcId ?? null,
    },
  ]
}
