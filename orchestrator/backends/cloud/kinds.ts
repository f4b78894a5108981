import type { ProviderKind } from './provider.ts'

/** The providers, each loaded when it is asked for: an SDK is nothing to who has another cloud. */
export const providers: Readonly<Record<string, () => Promise<{ readonly provider: ProviderKind }>>> = {
  openstack: () => import('./providers/openstack/openstack.ts'),
}
