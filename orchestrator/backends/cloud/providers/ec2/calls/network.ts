import {
  AttachInternetGatewayCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateInternetGatewayCommand,
  CreateRouteCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DeleteInternetGatewayCommand,
  DeleteSecurityGroupCommand,
  DeleteSubnetCommand,
  DeleteVpcCommand,
  DescribeInternetGatewaysCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  DetachInternetGatewayCommand,
} from '@aws-sdk/client-ec2'
import { everyPage } from '../../pages.ts'
import { type Client, idOf, nextOf, plain, specification, type Tags } from './client.ts'

/** One thing of the network beside machines. */
export interface Ec2Thing {
  readonly id: string
  readonly tags: Tags
}

export interface Ec2Subnet extends Ec2Thing {
  readonly vpc: string
  readonly zone: string
  readonly ipv6: boolean
}

export interface Ec2Group extends Ec2Thing {
  readonly vpc: string
}

export interface Ec2Vpc extends Ec2Thing {
  /** Of IPv6, as CIDR; null: it is still being given one. */
  readonly ipv6Block: string | null
}

export type NetworkCalls = ReturnType<typeof networkCalls>

export function networkCalls({ call, required, wouldBe, ask }: Client) {
  return {
    groups: (tags: Tags, signal: AbortSignal) =>
      everyPage('DescribeSecurityGroups', idOf, async (NextToken: string | undefined) => {
        const answer = await call(new DescribeSecurityGroupsCommand({ ...ask(tags), NextToken }), signal)
        const items = (answer.SecurityGroups ?? []).flatMap(({ GroupId, VpcId, Tags }) =>
          GroupId === undefined ? [] : [{ id: GroupId, vpc: VpcId ?? '', tags: plain(Tags) }],
        )
        return { items, next: nextOf(answer) }
      }),

    async createGroup(
      name: string,
      vpc: string,
      description: string,
      tags: Tags,
      signal: AbortSignal,
    ): Promise<string> {
      const command = new CreateSecurityGroupCommand({
        GroupName: name,
        VpcId: vpc,
        Description: description,
        TagSpecifications: [specification('security-group', tags)],
      })
      const answer = await call(command, signal)
      return required(answer.GroupId, 'CreateSecurityGroup')
    },

    /** Everything from one address, and nothing else. */
    async admit(group: string, address: string, signal: AbortSignal): Promise<void> {
      const command = new AuthorizeSecurityGroupIngressCommand({
        GroupId: group,
        IpPermissions: [{ IpProtocol: '-1', Ipv6Ranges: [{ CidrIpv6: `${address}/128` }] }],
      })
      await call(command, signal)
    },

    async deleteGroup(id: string, signal: AbortSignal): Promise<void> {
      await call(new DeleteSecurityGroupCommand({ GroupId: id }), signal)
    },

    /** Whether we may make a group; EC2 tells without making one. @throws `not-permitted` */
    async mayMakeGroups(vpc: string, signal: AbortSignal): Promise<void> {
      const command = new CreateSecurityGroupCommand({
        GroupName: 'orchestrator-check',
        Description: 'check',
        VpcId: vpc,
        DryRun: true,
      })
      await wouldBe(call(command, signal))
    },

    async mayMakeNetworks(ipv4Block: string, signal: AbortSignal): Promise<void> {
      const command = new CreateVpcCommand({ CidrBlock: ipv4Block, DryRun: true })
      await wouldBe(call(command, signal))
    },

    vpcs: (tags: Tags, signal: AbortSignal) =>
      everyPage('DescribeVpcs', idOf, async (NextToken: string | undefined) => {
        const answer = await call(new DescribeVpcsCommand({ ...ask(tags), NextToken }), signal)
        const items = (answer.Vpcs ?? []).flatMap(({ VpcId, Tags, Ipv6CidrBlockAssociationSet }) => {
          const given = Ipv6CidrBlockAssociationSet?.find((block) => block.Ipv6CidrBlockState?.State === 'associated')
          return VpcId === undefined ? [] : [{ id: VpcId, tags: plain(Tags), ipv6Block: given?.Ipv6CidrBlock ?? null }]
        })
        return { items, next: nextOf(answer) }
      }),

    async createVpc(ipv4Block: string, tags: Tags, signal: AbortSignal): Promise<void> {
      const command = new CreateVpcCommand({
        CidrBlock: ipv4Block,
        AmazonProvidedIpv6CidrBlock: true,
        TagSpecifications: [specification('vpc', tags)],
      })
      await call(command, signal)
    },

    async deleteVpc(id: string, signal: AbortSignal): Promise<void> {
      await call(new DeleteVpcCommand({ VpcId: id }), signal)
    },

    /** @param more `{ 'vpc-id': … }` or `{ 'subnet-id': … }` */
    subnets: (tags: Tags, more: Readonly<Record<string, string>>, signal: AbortSignal) =>
      everyPage('DescribeSubnets', idOf, async (NextToken: string | undefined) => {
        const answer = await call(new DescribeSubnetsCommand({ ...ask(tags, more), NextToken }), signal)
        const items = (answer.Subnets ?? []).flatMap((subnet) => {
          const { SubnetId, VpcId, AvailabilityZone, Tags, Ipv6CidrBlockAssociationSet: blocks } = subnet
          const ipv6 = (blocks ?? []).some(
            ({ Ipv6CidrBlock, Ipv6CidrBlockState: state }) =>
              Ipv6CidrBlock !== undefined && !/^(disassociat|fail)/.test(state?.State ?? ''),
          )
          return SubnetId === undefined || VpcId === undefined
            ? []
            : [{ id: SubnetId, vpc: VpcId, zone: AvailabilityZone ?? '', tags: plain(Tags), ipv6 }]
        })
        return { items, next: nextOf(answer) }
      }),

    async createSubnet(
      subnet: { vpc: string; ipv4Block: string; ipv6Block: string; zone: string | undefined },
      tags: Tags,
      signal: AbortSignal,
    ): Promise<void> {
      const command = new CreateSubnetCommand({
        VpcId: subnet.vpc,
        CidrBlock: subnet.ipv4Block,
        Ipv6CidrBlock: subnet.ipv6Block,
        AvailabilityZone: subnet.zone,
        TagSpecifications: [specification('subnet', tags)],
      })
      await call(command, signal)
    },

    async deleteSubnet(id: string, signal: AbortSignal): Promise<void> {
      await call(new DeleteSubnetCommand({ SubnetId: id }), signal)
    },

    /** With the networks that each is attached to. */
    gateways: (tags: Tags, signal: AbortSignal) =>
      everyPage('DescribeInternetGateways', idOf, async (NextToken: string | undefined) => {
        const command = new DescribeInternetGatewaysCommand({ ...ask(tags), NextToken })
        const answer = await call(command, signal)
        const items = (answer.InternetGateways ?? []).flatMap(({ InternetGatewayId, Tags, Attachments }) => {
          const vpcs = (Attachments ?? []).flatMap(({ VpcId }) => (VpcId === undefined ? [] : [VpcId]))
          return InternetGatewayId === undefined ? [] : [{ id: InternetGatewayId, tags: plain(Tags), vpcs }]
        })
        return { items, next: nextOf(answer) }
      }),

    async createGateway(tags: Tags, signal: AbortSignal): Promise<string> {
      const command = new CreateInternetGatewayCommand({ TagSpecifications: [specification('internet-gateway', tags)] })
      const answer = await call(command, signal)
      return required(answer.InternetGateway?.InternetGatewayId, 'CreateInternetGateway')
    },

    async attachGateway(id: string, vpc: string, signal: AbortSignal): Promise<void> {
      await call(new AttachInternetGatewayCommand({ InternetGatewayId: id, VpcId: vpc }), signal)
    },

    async detachGateway(id: string, vpc: string, signal: AbortSignal): Promise<void> {
      await call(new DetachInternetGatewayCommand({ InternetGatewayId: id, VpcId: vpc }), signal)
    },

    async deleteGateway(id: string, signal: AbortSignal): Promise<void> {
      await call(new DeleteInternetGatewayCommand({ InternetGatewayId: id }), signal)
    },

    /** The table of a network that its subnets use unless told otherwise, and the destinations in it. */
    async mainRoutes(vpc: string, signal: AbortSignal): Promise<{ id: string; destinations: readonly string[] }> {
      const command = new DescribeRouteTablesCommand({
        ...ask({}, { 'vpc-id': vpc, 'association.main': 'true' }),
      })
      const answer = await call(command, signal)
      const table = answer.RouteTables?.[0]
      const destinations = (table?.Routes ?? []).flatMap(({ DestinationCidrBlock, DestinationIpv6CidrBlock }) => [
        ...(DestinationCidrBlock === undefined ? [] : [DestinationCidrBlock]),
        ...(DestinationIpv6CidrBlock === undefined ? [] : [DestinationIpv6CidrBlock]),
      ])
      return { id: required(table?.RouteTableId, 'DescribeRouteTables'), destinations }
    },

    async createRoute(table: string, destination: string, gateway: string, signal: AbortSignal): Promise<void> {
      const to = destination.includes(':')
        ? { DestinationIpv6CidrBlock: destination }
        : { DestinationCidrBlock: destination }
      await call(new CreateRouteCommand({ RouteTableId: table, GatewayId: gateway, ...to }), signal)
    },
  }
}
