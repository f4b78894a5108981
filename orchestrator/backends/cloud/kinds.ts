import type { ProviderKind } from './provider.ts'

/** The providers, each loaded when it is asked for: an SDK is nothing to who has another cloud. */
export const providers: Readonly<Record<string, () => Promise<{ readonly provider: ProviderKind }>>> = {
  openstack: () => import('./providers/openstack/openstack.ts'),
  ec2: () => import('./providers/ec2/ec2.ts'),
  digitalocean: () => import('./providers/digitalocean/digitalocean.ts'),
  hetzner: () => import('./providers/hetzner/hetzner.ts'),
}
