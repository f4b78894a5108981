import { z } from 'zod'

/** `settings.provider` of kind `ec2`, with what the region says itself. */
export const ec2Settings = z.strictObject({
  /** `eu-central-1`. */
  region: z.string().regex(/^[a-z]{2,4}(-[a-z]+)+-\d{1,2}$/, 'expected a region of AWS: eu-central-1'),
  /** Of another service that speaks EC2's protocol; AWS's own unless told. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  /** Where machines go: a subnet that has IPv6. Absent: network and subnet are made, and removed with the last machine. */
  subnet: z
    .string()
    .regex(/^subnet-[0-9a-f]+$/, 'expected the id of a subnet: subnet-0abc…')
    .optional(),
  /** IPv4 block of the network that is made (RFC 4632); EC2 takes none without. */
  ipv4Block: z.cidrv4().default('10.235.0.0/24'),
  /** Availability zone of the subnet that is made; AWS chooses unless told. */
  zone: z.string().min(1).optional(),
  /** Name or ARN of the instance profile that machines get; none unless told. */
  instanceProfile: z.string().min(1).optional(),
  /** Name of the SSH key pair that machines get; none unless told. */
  keyName: z.string().min(1).optional(),
})

export type Ec2Settings = z.output<typeof ec2Settings>
