/*
 * What a backend that lives in a package of its own may import: `import { HostUnreachable } from 'orchestrator/contract'`.
 * Wherever that package stands, it gets these very classes of the orchestrator that runs it. docs/write-a-backend.md
 */
export { type Clock, systemClock } from '../common/clock.ts'
export { errorCode, HostUnreachable, InvalidInput, NoRoom, OrchestratorError, wording } from '../common/errors.ts'
export type { Ipv6 } from '../common/ipv6.ts'
export { parseIpv6 } from '../common/ipv6.ts'
export type { Log } from '../common/log.ts'
export type { ServiceSpec } from '../common/service-spec.ts'
export type {
  Backend,
  BackendContext,
  BackendKind,
  LogOptions,
  Records,
  TargetCheck,
} from './backends/backend.ts'
export { CONTRACT_VERSION } from './backends/backend.ts'
export { createGenerations, type Generations } from './backends/generations.ts'
export type { WantedImage } from './domain/build.ts'
export type { HostName, Target } from './domain/host.ts'
export type { InstanceId, Observed, Order, Reach } from './domain/instance.ts'
export type { Owner } from './domain/lease.ts'
export type { Price } from './domain/price.ts'
export type { Json, Template } from './domain/template.ts'
